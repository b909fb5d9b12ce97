// Sums up the access log of a web server: requests, errors, bytes and slowest answers of each path, the busiest path first.
package main

import (
	"encoding/json"
	"regexp"
	"sort"
	"strconv"
	"time"
)

type Request struct {
	Lines []string `json:"lines"`
	Top   int      `json:"top"`
}

type Path struct {
	Path     string `json:"path"`
	Requests int    `json:"requests"`
	Errors   int    `json:"errors"`
	Bytes    int64  `json:"bytes"`
	MedianMS int    `json:"medianMs"`
	times    []int
}

type Summary struct {
	From     *time.Time `json:"from"`
	To       *time.Time `json:"to"`
	Paths    []*Path    `json:"paths"`
	Unparsed []int      `json:"unparsed"` // the numbers of the lines that are not of this form
}

// The common log format, with the time that the answer took in milliseconds at the end.
var line = regexp.MustCompile(`^\S+ \S+ \S+ \[([^\]]+)\] "[A-Z]+ ([^ ?"]+)[^"]*" (\d{3}) (\d+|-) (\d+)$`)

const stamp = "02/Jan/2006:15:04:05 -0700"

func Handle(input []byte) ([]byte, error) {
	request := Request{Top: 10}
	if err := json.Unmarshal(input, &request); err != nil {
		return nil, err
	}
	paths := map[string]*Path{}
	summary := Summary{Paths: []*Path{}, Unparsed: []int{}}
	for number, text := range request.Lines {
		found := line.FindStringSubmatch(text)
		if found == nil {
			summary.Unparsed = append(summary.Unparsed, number+1)
			continue
		}
		at, err := time.Parse(stamp, found[1])
		if err != nil {
			return nil, err
		}
		summary.see(at.UTC())
		path, ok := paths[found[2]]
		if !ok {
			path = &Path{Path: found[2]}
			paths[path.Path] = path
			summary.Paths = append(summary.Paths, path)
		}
		path.add(found[3], found[4], found[5])
	}
	for _, path := range summary.Paths {
		sort.Ints(path.times)
		path.MedianMS = path.times[len(path.times)/2]
	}
	sort.SliceStable(summary.Paths, func(i, j int) bool { return summary.Paths[i].Requests > summary.Paths[j].Requests })
	summary.Paths = summary.Paths[:min(request.Top, len(summary.Paths))]
	return json.Marshal(summary)
}

func (s *Summary) see(at time.Time) {
	if s.From == nil || at.Before(*s.From) {
		s.From = &at
	}
	if s.To == nil || at.After(*s.To) {
		s.To = &at
	}
}

// The pattern lets digits through only, and a dash for an answer without a body.
func (p *Path) add(status, bytes, milliseconds string) {
	size, _ := strconv.ParseInt(bytes, 10, 64)
	took, _ := strconv.Atoi(milliseconds)
	p.Requests++
	p.Bytes += size
	p.times = append(p.times, took)
	if status >= "500" {
		p.Errors++
	}
}
