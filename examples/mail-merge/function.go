// Fills a template of a letter in for each of its recipients, as text/template understands it, with a few functions for letters.
package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/template"
	"time"
)

type Request struct {
	Subject    string           `json:"subject"`
	Body       string           `json:"body"`
	Recipients []map[string]any `json:"recipients"`
}

type Letter struct {
	To      string `json:"to"`
	Subject string `json:"subject"`
	Body    string `json:"body"`
}

var functions = template.FuncMap{
	"upper": strings.ToUpper,
	"money": func(cents float64) string { return fmt.Sprintf("€%.2f", cents/100) },
	"date": func(text string) (string, error) {
		day, err := time.Parse(time.DateOnly, text)
		return day.Format("2 January 2006"), err
	},
	"list": func(items []any) string {
		words := make([]string, len(items))
		for i, item := range items {
			words[i] = fmt.Sprint(item)
		}
		if len(words) < 2 {
			return strings.Join(words, "")
		}
		last := len(words) - 1
		return strings.Join(words[:last], ", ") + " and " + words[last]
	},
}

func Handle(input []byte) ([]byte, error) {
	var request Request
	if err := json.Unmarshal(input, &request); err != nil {
		return nil, err
	}
	subject, err := parse("subject", request.Subject)
	if err != nil {
		return nil, err
	}
	body, err := parse("body", request.Body)
	if err != nil {
		return nil, err
	}
	letters := make([]Letter, 0, len(request.Recipients))
	for number, recipient := range request.Recipients {
		letter := Letter{To: fmt.Sprint(recipient["email"])}
		if letter.Subject, err = fill(subject, recipient); err == nil {
			letter.Body, err = fill(body, recipient)
		}
		if err != nil {
			return nil, fmt.Errorf("recipient %d: %w", number+1, err)
		}
		letters = append(letters, letter)
	}
	return json.Marshal(letters)
}

// A field that a recipient lacks is an error: better no letter than one to <no value>.
func parse(name, text string) (*template.Template, error) {
	return template.New(name).Funcs(functions).Option("missingkey=error").Parse(text)
}

func fill(filled *template.Template, recipient map[string]any) (string, error) {
	var text strings.Builder
	err := filled.Execute(&text, recipient)
	return text.String(), err
}
