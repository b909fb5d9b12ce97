// Finds when everybody is free: the gaps between the busy times of several calendars, inside of working hours, long enough for a meeting.
package main

import (
	"encoding/json"
	"errors"
	"slices"
	"time"
)

type Span struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

type Request struct {
	Within    Span              `json:"within"`
	Minutes   int               `json:"minutes"`
	FirstHour int               `json:"firstHour"`
	LastHour  int               `json:"lastHour"`
	Calendars map[string][]Span `json:"calendars"`
}

func Handle(input []byte) ([]byte, error) {
	request := Request{Minutes: 30, FirstHour: 9, LastHour: 17}
	if err := json.Unmarshal(input, &request); err != nil {
		return nil, err
	}
	if !request.Within.From.Before(request.Within.To) {
		return nil, errors.New("within.to must be later than within.from")
	}
	busy := request.nights()
	for _, spans := range request.Calendars {
		busy = append(busy, spans...)
	}
	return json.Marshal(gaps(busy, request.Within, time.Duration(request.Minutes)*time.Minute))
}

// nights are the times outside of working hours, in the time zone in which the search was asked for.
func (r Request) nights() []Span {
	var nights []Span
	year, month, day := r.Within.From.Date()
	zone := r.Within.From.Location()
	for date := time.Date(year, month, day, 0, 0, 0, 0, zone); date.Before(r.Within.To); date = date.AddDate(0, 0, 1) {
		next := date.AddDate(0, 0, 1)
		if weekday := date.Weekday(); weekday == time.Saturday || weekday == time.Sunday {
			nights = append(nights, Span{date, next})
			continue
		}
		opens, closes := date.Add(time.Duration(r.FirstHour)*time.Hour), date.Add(time.Duration(r.LastHour)*time.Hour)
		nights = append(nights, Span{date, opens}, Span{closes, next})
	}
	return nights
}

// gaps are the spans of at least some length that none of the busy ones touches.
func gaps(busy []Span, within Span, length time.Duration) []Span {
	slices.SortFunc(busy, func(a, b Span) int { return a.From.Compare(b.From) })
	free := []Span{}
	from := within.From
	for _, span := range append(busy, Span{within.To, within.To}) {
		to := span.From
		if to.After(within.To) {
			to = within.To
		}
		if to.Sub(from) >= length {
			free = append(free, Span{from, to.In(from.Location())})
		}
		if span.To.After(from) {
			from = span.To.In(within.From.Location())
		}
	}
	return free
}
