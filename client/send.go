package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/parley-im/parley"
)

// Letter is a message to users. To and Body are all that most have.
type Letter struct {
	// To are the users, each once; at most 100 unless the server says otherwise.
	To []string
	// Body is any bytes.
	Body []byte
	// ID names the letter among all that this user and device send. The same ID
	// and letter is stored once, however often it is sent, within the time that
	// the server remembers. Empty means a random one.
	ID string
	// Header is a JSON object of strings, or empty.
	Header string
	// Expires is when it stops being worth delivering; zero is never.
	Expires time.Time
	// Receipts asks to be told, in the sender's own inbox, when a device of a
	// recipient has acknowledged the letter, and when they have read it.
	Receipts bool
}

// Sent says what became of a letter.
type Sent struct {
	// ID is the letter's: the one given, or the one that was made for it.
	ID string
	// Recipients are in the order of Letter.To; none is known to have the letter
	// if there are none.
	Recipients []Recipient
}

// Recipient is what became of a letter to one user.
type Recipient struct {
	User string
	// Seq is its place in the recipient's inbox; 0 if it is not there.
	Seq parley.Seq
	// Duplicate reports that an earlier send with the same id had stored it.
	Duplicate bool
	// Err says why it is not in their inbox.
	Err error
}

// Send stores a letter in the inbox of each recipient, and in the sender's own
// for their other devices, and returns when that is durable. The recipients need
// not be there.
//
// If the connection breaks, Send waits for the next one and repeats the request,
// and likewise if the server is too busy; the server recognises the ID and stores
// the letter once. After an error that does not come from the server, such as
// ctx's, it is not known whether it is stored: send it again with the ID of the
// result, which is set even then. A program that chooses the IDs itself, and its
// Options.Device, may also repeat a send after a restart.
//
// The error is nil if all recipients have it, and otherwise wraps the first
// failure, which each Recipient.Err has too: parley.ErrInvalid, ErrForbidden (the
// recipient does not exist, or may not be written to: the server does not say
// which), ErrConflict (the ID was used for another letter), or ctx's or
// ErrClosed.
func (c *Client) Send(ctx context.Context, l Letter) (Sent, error) {
	sent := Sent{ID: nameLetter(&l)}
	params, err := encodeLetter(&l)
	if err != nil {
		return sent, err
	}
	var answer sentResult
	if err := c.do(ctx, "msg.send", json.RawMessage(params), &answer); err != nil {
		return sent, err
	}
	return sent, answer.into(&sent)
}

// SendAll sends letters, in order and with few round trips. What Send says holds
// for each of them. The results are as many as the letters, in their order. The
// error is nil only if all recipients have all; it wraps the first failure.
func (c *Client) SendAll(ctx context.Context, letters []Letter) ([]Sent, error) {
	sent := make([]Sent, len(letters))
	encoded := make([]json.RawMessage, len(letters))
	for i, l := range letters {
		sent[i].ID = nameLetter(&l)
		p, err := encodeLetter(&l)
		if err == nil {
			err = c.fitsAlone(p)
		}
		if err != nil {
			return sent, fmt.Errorf("letter %d: %w", i, err)
		}
		encoded[i] = p
	}
	var failures failures
	for i := 0; i < len(encoded); {
		n := c.batch(encoded[i:])
		var answer struct {
			Results []sentResult `json:"results"`
		}
		err := c.do(ctx, "msg.send", batchParams{encoded[i : i+n]}, &answer)
		if err == nil && len(answer.Results) != n {
			err = fmt.Errorf("client: msg.send: %w", errGarbled)
		}
		if err != nil {
			failures.add(i, err, len(encoded)-i)
			break
		}
		for j := range answer.Results {
			if err := answer.Results[j].into(&sent[i+j]); err != nil {
				failures.add(i+j, err, 1)
			}
		}
		i += n
	}
	return sent, failures.err(len(letters))
}

// sentResult is one letter's part of the answer.
type sentResult struct {
	Recipients []struct {
		To        string     `json:"to"`
		Seq       parley.Seq `json:"seq"`
		Duplicate bool       `json:"duplicate"`
		Error     *wireError `json:"error"`
	} `json:"recipients"`
	Error *wireError `json:"error"`
}

// into fills sent and returns the first failure.
func (r *sentResult) into(sent *Sent) error {
	first := r.Error.err()
	sent.Recipients = make([]Recipient, len(r.Recipients))
	for i, to := range r.Recipients {
		sent.Recipients[i] = Recipient{User: to.To, Seq: to.Seq, Duplicate: to.Duplicate, Err: to.Error.err()}
		if err := to.Error.err(); err != nil && first == nil {
			first = fmt.Errorf("client: to %s: %w", to.To, err)
		}
	}
	return first
}

func nameLetter(l *Letter) string {
	if l.ID == "" {
		l.ID = rand.Text()
	}
	return l.ID
}

// outgoingLetter is a letter as the wire has it.
type outgoingLetter struct {
	To       []string        `json:"to"`
	ID       string          `json:"id"`
	Text     *string         `json:"text,omitempty"`
	Data     []byte          `json:"data,omitempty"`
	Headers  json.RawMessage `json:"headers,omitempty"`
	Expires  string          `json:"expires,omitempty"`
	Receipts bool            `json:"receipts,omitempty"`
}

// encodeLetter writes l for the wire; see encodeMessage.
func encodeLetter(l *Letter) ([]byte, error) {
	if len(l.To) == 0 {
		return nil, fmt.Errorf("client: a letter needs recipients: %w", parley.ErrInvalid)
	}
	for _, user := range l.To {
		if _, err := parley.ParseUser(user); err != nil {
			return nil, fmt.Errorf("client: to %.40q: %w", user, err)
		}
	}
	if !utf8.ValidString(l.ID) {
		return nil, fmt.Errorf("client: letter id is not valid UTF-8: %w", parley.ErrInvalid)
	}
	out := outgoingLetter{To: l.To, ID: l.ID, Expires: stamp(l.Expires), Receipts: l.Receipts}
	if utf8.Valid(l.Body) {
		text := string(l.Body)
		out.Text = &text
	} else {
		out.Data = l.Body
	}
	if l.Header != "" {
		if err := checkHeader(l.Header); err != nil {
			return nil, err
		}
		out.Headers = json.RawMessage(l.Header)
	}
	return encode(out)
}
