package client

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-im/parley"
)

// HistoryQuery selects stored messages. Only Topic is needed.
type HistoryQuery struct {
	// Topic selects the messages published to it and below it.
	Topic parley.Topic
	// After and Before bound the seqs, both exclusively; 0 is no bound.
	After, Before parley.Seq
	// Since leaves out what was stored earlier; zero leaves out nothing.
	Since time.Time
	// Limit bounds the page; 0 means as many as the server allows (1,000
	// unless configured), and so does more than that. Count ignores it.
	Limit int
	// Reverse begins with the newest. Count ignores it.
	Reverse bool
}

// Page is a part of a history.
type Page struct {
	// Messages are in ascending order of Seq, or descending with Reverse. They
	// may be fewer than Limit, or none, although there are more.
	Messages []*parley.Message
	// More says that there may be more to read.
	More bool
	// Next is where, if there is More: After of the next query, or Before with
	// Reverse.
	Next parley.Seq
	// Floor is how far retention has removed the stream's messages; 0 if it
	// has removed none. A query with an After below it has missed some.
	Floor parley.Seq
}

// Tally is how many messages a query selects, and the seqs of the first and the
// last of them, 0 when there is none.
type Tally struct {
	Count int        `json:"count"`
	First parley.Seq `json:"first"`
	Last  parley.Seq `json:"last"`
}

type historyParams struct {
	Topic   parley.Topic `json:"topic"`
	After   parley.Seq   `json:"after,omitempty"`
	Before  parley.Seq   `json:"before,omitempty"`
	Since   string       `json:"since,omitempty"`
	Limit   int          `json:"limit,omitempty"`
	Reverse bool         `json:"reverse,omitempty"`
}

func (q HistoryQuery) params() (historyParams, error) {
	if _, err := parley.ParseTopic(string(q.Topic)); err != nil {
		return historyParams{}, fmt.Errorf("client: %w", err)
	}
	return historyParams{
		Topic: q.Topic, After: q.After, Before: q.Before, Since: stamp(q.Since), Limit: q.Limit, Reverse: q.Reverse,
	}, nil
}

// History reads one page of stored messages. It waits for a connection if there
// is none. To read everything from a place on, subscribe with ReplayOnly.
func (c *Client) History(ctx context.Context, q HistoryQuery) (Page, error) {
	params, err := q.params()
	if err != nil {
		return Page{}, err
	}
	var answer struct {
		Messages []incoming `json:"messages"`
		Next     parley.Seq `json:"next"`
		More     bool       `json:"more"`
		Floor    parley.Seq `json:"floor"`
	}
	if err := c.do(ctx, "history", params, &answer); err != nil {
		return Page{}, err
	}
	return Page{Messages: messages(answer.Messages), Next: answer.Next, More: answer.More, Floor: answer.Floor}, nil
}

// Count counts stored messages without reading them. It waits for a connection
// if there is none.
func (c *Client) Count(ctx context.Context, q HistoryQuery) (Tally, error) {
	params, err := q.params()
	if err != nil {
		return Tally{}, err
	}
	params.Limit, params.Reverse = 0, false
	var tally Tally
	if err := c.do(ctx, "count", params, &tally); err != nil {
		return Tally{}, err
	}
	return tally, nil
}
