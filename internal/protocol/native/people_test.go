package native_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
	"github.com/parley-im/parley/internal/protocol/native"
	"github.com/parley-im/parley/internal/wire"
)

func credential(c account.Credential) *protocol.Authenticate {
	return &protocol.Authenticate{Ref: "1", Credential: c}
}

func send(batch bool, letters ...broker.Letter) *protocol.Send {
	return &protocol.Send{Send: broker.Send{Ref: "1", Batch: batch, Letters: letters}}
}

func acks(a broker.Ack) *protocol.Ack {
	a.Ref, a.Sub = "1", 3
	return &protocol.Ack{Ack: a}
}

func inbox(s broker.Subscribe) *protocol.Inbox {
	s.Ref = "1"
	return &protocol.Inbox{Subscribe: s}
}

func TestDecodeForUsers(t *testing.T) {
	noon := time.Date(2999, 11, 21, 12, 0, 0, 0, time.UTC)
	oldest := broker.Start{Kind: broker.AfterSeq}
	tests := map[string]struct {
		text string
		want protocol.Request
	}{
		"token": {
			call("auth", `{"token":"a.b.c","device":"Phone","device_name":"Ann's phone","platform":"iOS"}`),
			credential(account.Credential{Kind: account.Token, Secret: "a.b.c", Device: "Phone", DeviceName: "Ann's phone", Platform: "iOS"}),
		},
		"longest token": {
			call("auth", `{"token":"`+strings.Repeat("a", 8192)+`"}`),
			credential(account.Credential{Kind: account.Token, Secret: strings.Repeat("a", 8192)}),
		},
		"API key":     {call("auth", `{"api_key":"k"}`), credential(account.Credential{Kind: account.APIKey, Secret: "k"})},
		"certificate": {call("auth", `{"certificate":true}`), credential(account.Credential{Kind: account.Certificate})},
		"ID token": {
			call("auth", `{"id_token":"t","issuer":"google","token":null,"certificate":false}`),
			credential(account.Credential{Kind: account.IDToken, Secret: "t", Issuer: "google"}),
		},
		"name": {call("auth", `{"user":"ANN"}`), credential(account.Credential{Kind: account.Claim, User: "ann"})},

		"send to one": {
			call("msg.send", `{"to":"Bob","text":"hi"}`),
			send(false, broker.Letter{To: []string{"bob"}, Message: parley.Message{Body: []byte("hi")}}),
		},
		"send to several": {
			call("msg.send", `{"to":["bob","\u0043arol"],"data":"AP8=","id":"m","headers":{"b":"2","a":"1"},"expires":"2999-11-21T13:00:00+01:00","receipts":true}`),
			send(false, broker.Letter{To: []string{"bob", "carol"}, Receipts: true, Message: parley.Message{
				Body: []byte{0, 255}, ID: "m", Header: `{"a":"1","b":"2"}`, Expires: noon,
			}}),
		},
		"send a batch": {
			call("msg.send", `{"to":null,"messages":[{"to":"bob"},{"to":["bob"],"text":""}]}`),
			send(true, broker.Letter{To: []string{"bob"}}, broker.Letter{To: []string{"bob"}, Message: parley.Message{Body: []byte{}}}),
		},

		"inbox": {call("inbox.open", `{}`), inbox(broker.Subscribe{Start: oldest, Delivery: &broker.Delivery{}})},
		"inbox, all": {
			call("inbox.open", `{"ack_wait_ms":1500,"max_in_flight":7,"last":3}`),
			inbox(broker.Subscribe{
				Start:    broker.Start{Kind: broker.NewestN, Last: 3},
				Delivery: &broker.Delivery{AckWait: 1500 * time.Millisecond, MaxInFlight: 7},
			}),
		},
		"durable": {
			call("subscribe", `{"topic":"/a","durable":"billing","ack_wait_ms":100,"max_in_flight":1,"max_deliver":5,"after":0}`),
			subscribe(broker.Subscribe{Topic: "/a", Start: oldest, Delivery: &broker.Delivery{
				Name: "billing", AckWait: 100 * time.Millisecond, MaxInFlight: 1, MaxDeliver: 5,
			}}),
		},
		"durable, bare": {
			call("subscribe", `{"topic":"/a","durable":"b"}`),
			subscribe(broker.Subscribe{Topic: "/a", Delivery: &broker.Delivery{Name: "b"}}),
		},

		"ack":       {call("ack", `{"sub":3,"seqs":[7]}`), acks(broker.Ack{Ranges: []broker.SeqRange{{First: 7, Last: 7}}})},
		"ack, many": {call("ack", `{"sub":3,"ranges":[[1,5],[9,9]],"seqs":[7]}`), acks(broker.Ack{Ranges: []broker.SeqRange{{First: 7, Last: 7}, {First: 1, Last: 5}, {First: 9, Last: 9}}})},
		"ack, no answer": {
			`{"jsonrpc":"2.0","method":"ack","params":{"sub":3,"seqs":[7]}}`,
			&protocol.Ack{Ack: broker.Ack{Sub: 3, Ranges: []broker.SeqRange{{First: 7, Last: 7}}}},
		},
		"nak": {call("nak", `{"sub":3,"seqs":[7]}`), acks(broker.Ack{Nak: true, Ranges: []broker.SeqRange{{First: 7, Last: 7}}})},
		"nak, later": {
			call("nak", `{"sub":3,"seqs":[7],"delay_ms":2000}`),
			acks(broker.Ack{Nak: true, Delay: 2 * time.Second, Ranges: []broker.SeqRange{{First: 7, Last: 7}}}),
		},
		"nak, dead": {
			call("nak", `{"sub":3,"ranges":[[7,8]],"dead":true,"reason":"no such order"}`),
			acks(broker.Ack{Nak: true, Dead: true, Reason: "no such order", Ranges: []broker.SeqRange{{First: 7, Last: 8}}}),
		},

		"inbox history": {call("inbox.history", `{}`), &protocol.History{Ref: "1"}},
		"inbox history, all": {
			call("inbox.history", `{"peer":"BOB","after":1,"before":9,"since":"2999-11-21T12:00:00Z","limit":5,"reverse":true}`),
			&protocol.History{Ref: "1", Peer: "bob", After: 1, Before: 9, Since: noon, Limit: 5, Reverse: true},
		},
		"read":     {call("inbox.read", `{"seq":7}`), &protocol.MarkRead{MarkRead: broker.MarkRead{Ref: "1", Seq: 7}}},
		"sessions": {call("session.list", `{}`), &protocol.Sessions{Ref: "1"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := decode(t, newCodec(), test.text)
			if len(got) != 1 || !reflect.DeepEqual(got[0], test.want) {
				t.Errorf("%.200s\ngot  %.300s\nwant %+v", test.text, show(got), test.want)
			}
		})
	}
}

// refusals are requests of users that break a rule.
func refusals() map[string]string {
	names := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"u%d"`, i)
		}
		return "[" + b.String()[1:] + "]"
	}
	numbers := "[" + strings.Repeat("7,", 1000) + "7]"
	long := strings.Repeat("x", 256)
	return map[string]string{
		"nothing shown":           call("auth", `{}`),
		"two shown":               call("auth", `{"token":"a","api_key":"b"}`),
		"token and name":          call("auth", `{"token":"a","user":"ann"}`),
		"token and certificate":   call("auth", `{"token":"a","certificate":true}`),
		"empty token":             call("auth", `{"token":""}`),
		"token a number":          call("auth", `{"token":1}`),
		"token twice":             call("auth", `{"Token":"a"}`),
		"long token":              call("auth", `{"token":"`+strings.Repeat("a", 8193)+`"}`),
		"certificate a string":    call("auth", `{"certificate":"x"}`),
		"issuer of a token":       call("auth", `{"token":"a","issuer":"google"}`),
		"long issuer":             call("auth", `{"id_token":"a","issuer":"`+long+`"}`),
		"name with a slash":       call("auth", `{"user":"a/b"}`),
		"name of the server's":    call("auth", `{"user":"$ann"}`),
		"empty name":              call("auth", `{"user":""}`),
		"device with a space":     call("auth", `{"user":"ann","device":"my phone"}`),
		"empty device":            call("auth", `{"user":"ann","device":""}`),
		"long device name":        call("auth", `{"user":"ann","device_name":"`+long+`"}`),
		"device name of two rows": call("auth", `{"user":"ann","device_name":"a\nb"}`),
		"long platform":           call("auth", `{"user":"ann","platform":"`+long[:65]+`"}`),

		"to nobody":            call("msg.send", `{"text":"hi"}`),
		"to no one of a list":  call("msg.send", `{"to":[],"text":"hi"}`),
		"to a number":          call("msg.send", `{"to":7}`),
		"to an object":         call("msg.send", `{"to":{"a":"b"}}`),
		"to numbers":           call("msg.send", `{"to":["bob",7]}`),
		"to lists":             call("msg.send", `{"to":[["bob"]]}`),
		"to null among others": call("msg.send", `{"to":["bob",null]}`),
		"to one twice":         call("msg.send", `{"to":["bob","BOB"]}`),
		"to too many":          call("msg.send", `{"to":`+names(101)+`}`),
		"to far too many":      call("msg.send", `{"to":`+names(100_000)+`}`),
		"to a bad name":        call("msg.send", `{"to":"a,b"}`),
		"to an inbox":          call("msg.send", `{"to":"$inbox"}`),
		"to a long name":       call("msg.send", `{"to":"`+long+`"}`),
		"to a topic":           call("msg.send", `{"to":"bob","topic":"/a"}`),
		"with filters":         call("msg.send", `{"to":"bob","filters":{"a":"b"}}`),
		"text and data":        call("msg.send", `{"to":"bob","text":"","data":""}`),
		"empty id":             call("msg.send", `{"to":"bob","id":""}`),
		"long id":              call("msg.send", `{"to":"bob","id":"`+long+`"}`),
		"long headers":         call("msg.send", `{"to":"bob","headers":{"a":"`+strings.Repeat("x", 16384)+`"}}`),
		"expired":              call("msg.send", `{"to":"bob","expires":"2020-01-01T00:00:00Z"}`),
		"receipts a string":    call("msg.send", `{"to":"bob","receipts":"yes"}`),
		"empty batch":          call("msg.send", `{"messages":[]}`),
		"batch and to":         call("msg.send", `{"to":"bob","messages":[{"to":"bob"}]}`),
		"batch with a fault":   call("msg.send", `{"messages":[{"to":"bob"},{}]}`),
		"batch too long":       call("msg.send", `{"messages":[`+strings.Repeat(`{"to":"a"},`, 10)+`{"to":"a"}]}`),

		"inbox of somebody":     call("inbox.open", `{"user":"bob"}`),
		"ack_wait of 0":         call("inbox.open", `{"ack_wait_ms":0}`),
		"ack_wait of a day":     call("inbox.open", `{"ack_wait_ms":86400000}`),
		"ack_wait beyond int":   call("inbox.open", `{"ack_wait_ms":9223372036854775807}`),
		"ack_wait of 1.5":       call("inbox.open", `{"ack_wait_ms":1000.5}`),
		"none in flight":        call("inbox.open", `{"max_in_flight":0}`),
		"inbox, max_deliver":    call("inbox.open", `{"max_deliver":1}`),
		"inbox, after and last": call("inbox.open", `{"after":1,"last":1}`),
		"durable without name":  call("subscribe", `{"topic":"/a","durable":""}`),
		"durable with a slash":  call("subscribe", `{"topic":"/a","durable":"a/b"}`),
		"durable, replay only":  call("subscribe", `{"topic":"/a","durable":"a","after":0,"replay_only":true}`),
		"ack_wait, not durable": call("subscribe", `{"topic":"/a","ack_wait_ms":1000}`),
		"max_deliver, bare":     call("subscribe", `{"topic":"/a","max_deliver":1}`),
		"max_deliver of 0":      call("subscribe", `{"topic":"/a","durable":"a","max_deliver":0}`),
		"max_deliver, many":     call("subscribe", `{"topic":"/a","durable":"a","max_deliver":1001}`),

		"ack of nothing":       call("ack", `{"sub":1}`),
		"ack of an empty list": call("ack", `{"sub":1,"seqs":[]}`),
		"ack without sub":      call("ack", `{"seqs":[1]}`),
		"ack of 0":             call("ack", `{"sub":1,"seqs":[0]}`),
		"ack of -1":            call("ack", `{"sub":1,"seqs":[-1]}`),
		"ack of 1.5":           call("ack", `{"sub":1,"seqs":[1.5]}`),
		"ack beyond 2^53":      call("ack", `{"sub":1,"seqs":[9007199254740993]}`),
		"ack of texts":         call("ack", `{"sub":1,"seqs":["7"]}`),
		"ack of too many":      call("ack", `{"sub":1,"seqs":`+numbers+`}`),
		"range backwards":      call("ack", `{"sub":1,"ranges":[[5,1]]}`),
		"range from 0":         call("ack", `{"sub":1,"ranges":[[0,1]]}`),
		"range of one":         call("ack", `{"sub":1,"ranges":[[5]]}`),
		"range of three":       call("ack", `{"sub":1,"ranges":[[1,2,3]]}`),
		"range beyond 2^53":    call("ack", `{"sub":1,"ranges":[[1,9007199254740993]]}`),
		"ack with a delay":     call("ack", `{"sub":1,"seqs":[1],"delay_ms":1}`),
		"delay below 0":        call("nak", `{"sub":1,"seqs":[1],"delay_ms":-1}`),
		"delay of a year":      call("nak", `{"sub":1,"seqs":[1],"delay_ms":31536000000}`),
		"dead and delayed":     call("nak", `{"sub":1,"seqs":[1],"dead":true,"delay_ms":1}`),
		"reason, not dead":     call("nak", `{"sub":1,"seqs":[1],"reason":"x"}`),
		"long reason":          call("nak", `{"sub":1,"seqs":[1],"dead":true,"reason":"`+long+`"}`),
		"reason of two rows":   call("nak", `{"sub":1,"seqs":[1],"dead":true,"reason":"a\nb"}`),

		"history of a topic":  call("inbox.history", `{"topic":"/a"}`),
		"history of a path":   call("inbox.history", `{"peer":"../bob"}`),
		"history of limit 0":  call("inbox.history", `{"limit":0}`),
		"history before 0":    call("inbox.history", `{"before":0}`),
		"read nothing":        call("inbox.read", `{}`),
		"read beyond 2^53":    call("inbox.read", `{"seq":9007199254740993}`),
		"sessions of another": call("session.list", `{"user":"bob"}`),
	}
}

func TestDecodeRefusesForUsers(t *testing.T) {
	for name, text := range refusals() {
		t.Run(name, func(t *testing.T) {
			got := decode(t, newCodec(), text)
			bad, ok := got[0].(*protocol.Bad)
			if len(got) != 1 || !ok || !errors.Is(bad.Err, parley.ErrInvalid) {
				t.Fatalf("got %.200s", show(got))
			}
			e, _ := encode(t, &broker.Failed{Ref: bad.Ref, Err: bad.Err})["error"].(map[string]any)
			if code, _ := e["code"].(float64); int(code) != jsonrpc.CodeInvalidParams {
				t.Errorf("got %v", e)
			}
			message, _ := e["message"].(string)
			if message == "" || len(message) > 300 || strings.HasSuffix(message, ": invalid") || strings.Contains(message, strings.Repeat("a", 100)) {
				t.Errorf("got message %q", message)
			}
		})
	}
}

func TestEncodeForUsers(t *testing.T) {
	at := time.Date(2026, 11, 21, 8, 8, 7, 65000, time.UTC)
	sub := &broker.Subscription{ID: 4, Topic: "/$inbox/ann"}
	one := &parley.Message{Topic: "/$inbox/ann/bob", Seq: 7, Time: at, ID: "m", Sender: parley.Identity{User: "bob"}, Body: []byte("hi")}
	const oneText = `{"topic":"/$inbox/ann/bob","seq":7,"time":"2026-11-21T08:08:07.000065Z","id":"m","user":"bob","text":"hi"}`
	forbidden := fmt.Errorf("this is not allowed here: %w", parley.ErrForbidden)
	const refused = `{"code":-32002,"message":"this is not allowed here","data":{"kind":"forbidden"}}`
	principal := func(device string, expires time.Time) *account.Principal {
		return &account.Principal{Identity: parley.Identity{User: "ann", Device: device}, Expires: expires}
	}
	letter := func(id string, results ...broker.SendResult) broker.Letter {
		l := broker.Letter{Message: parley.Message{ID: id}, Results: results}
		for i := range results {
			l.To = append(l.To, []string{"bob", `c"rol`}[i])
		}
		return l
	}
	answer := func(result string) string { return `{"jsonrpc":"2.0","id":1,"result":` + result + `}` }
	tests := map[string]struct {
		event broker.Event
		want  string
	}{
		"authenticated": {&broker.Authenticated{Ref: "1", Login: &account.Login{Principal: principal("", time.Time{})}}, answer(`{"user":"ann"}`)},
		"authenticated, all": {
			&broker.Authenticated{Ref: "1", Login: &account.Login{
				Principal: principal("phone", at), Token: "a.b.c", Profile: &account.Profile{Name: "Ann", Email: "a@x.example", Picture: []byte{1}},
			}},
			answer(`{"user":"ann","device":"phone","expires":"2026-11-21T08:08:07.000065Z","token":"a.b.c","name":"Ann","email":"a@x.example"}`),
		},
		"authenticated, certificate": {
			&broker.Authenticated{Ref: "1", Login: &account.Login{Principal: principal("", time.Time{}), Certificate: []byte("C\n"), Key: []byte("K")}},
			answer(`{"user":"ann","certificate":"C\n","key":"K"}`),
		},
		"authenticated, quiet": {&broker.Authenticated{Login: &account.Login{Principal: principal("", time.Time{}), Token: "t"}}, ``},

		"sent": {
			&broker.Sent{Send: &broker.Send{Ref: "1", Letters: []broker.Letter{letter("m", broker.SendResult{Seq: 7})}}},
			answer(`{"id":"m","recipients":[{"to":"bob","seq":7}]}`),
		},
		"sent to several": {
			&broker.Sent{Send: &broker.Send{Ref: "1", Letters: []broker.Letter{letter("m", broker.SendResult{Seq: 7, Duplicate: true}, broker.SendResult{Err: forbidden})}}},
			answer(`{"id":"m","recipients":[{"to":"bob","seq":7,"duplicate":true},{"to":"c\"rol","error":` + refused + `}]}`),
		},
		"sent to nobody": {
			&broker.Sent{Send: &broker.Send{Ref: "1", Letters: []broker.Letter{letter("m", broker.SendResult{Err: forbidden})}}},
			`{"jsonrpc":"2.0","id":1,"error":` + refused + `}`,
		},
		"sent against a rule": {
			&broker.Sent{Send: &broker.Send{Ref: "1", Letters: []broker.Letter{{Err: forbidden}}}},
			`{"jsonrpc":"2.0","id":1,"error":` + refused + `}`,
		},
		"sent, batch": {
			&broker.Sent{Send: &broker.Send{Ref: "1", Batch: true, Letters: []broker.Letter{letter("m", broker.SendResult{Seq: 7}), {Err: forbidden}, letter("n", broker.SendResult{Err: forbidden})}}},
			answer(`{"results":[{"id":"m","recipients":[{"to":"bob","seq":7}]},{"error":` + refused + `},{"error":` + refused + `}]}`),
		},
		"sent, quiet": {&broker.Sent{Send: &broker.Send{Letters: []broker.Letter{letter("m", broker.SendResult{Seq: 7})}}}, ``},

		"deliveries": {
			&broker.Deliveries{Sub: sub, Messages: []*parley.Message{one}},
			`{"jsonrpc":"2.0","method":"msg.recv","params":{"sub":4,"messages":[` + oneText + `]}}`,
		},
		"deliveries again": {
			&broker.Deliveries{Sub: sub, Messages: []*parley.Message{one, one}, Attempts: []int{1, 12}},
			`{"jsonrpc":"2.0","method":"msg.recv","params":{"sub":4,"attempts":[1,12],"messages":[` + oneText + `,` + oneText + `]}}`,
		},
		"acked":        {&broker.Acked{Ref: "1", Count: 3, Cursor: 9}, answer(`{"count":3,"cursor":9}`)},
		"acked, quiet": {&broker.Acked{Count: 3}, ``},
		"read":         {&broker.ReadMarker{Ref: "1", Sub: sub, Seq: 7, Unread: 2}, answer(`{"seq":7,"unread":2}`)},
		"was read":     {&broker.ReadMarker{Sub: sub, Seq: 7, Unread: 2}, `{"jsonrpc":"2.0","method":"inbox.read","params":{"sub":4,"seq":7,"unread":2}}`},
		"read, quiet":  {&broker.ReadMarker{Seq: 7}, ``},
		"sessions": {
			&broker.Sessions{Ref: "1", Sessions: []broker.SessionInfo{
				{ID: 1, Identity: parley.Identity{User: "ann", Device: "phone"}, Protocol: "native", Remote: "127.0.0.1:5", Since: at, Current: true},
				{ID: 2, Since: at},
			}},
			answer(`{"sessions":[{"session":1,"device":"phone","protocol":"native","remote":"127.0.0.1:5","since":"2026-11-21T08:08:07.000065Z","current":true},` +
				`{"session":2,"since":"2026-11-21T08:08:07.000065Z"}]}`),
		},
		"sessions, none":  {&broker.Sessions{Ref: "1"}, answer(`{"sessions":[]}`)},
		"sessions, quiet": {&broker.Sessions{}, ``},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.want == "" {
				if got := newCodec().Encode(nil, test.event); len(got) > 0 {
					t.Errorf("a notification is answered with %s", got)
				}
				return
			}
			if got := string(payload(t, newCodec(), test.event)); got != test.want {
				t.Errorf("\ngot  %s\nwant %s", got, test.want)
			}
		})
	}
}

// A server that allows fewer recipients, or more, says so.
func TestRecipientsOfTheTerms(t *testing.T) {
	for most, ok := range map[int]bool{1: false, 2: true, 150: true} {
		its := terms()
		its.Recipients = most
		got := decode(t, native.New(lines{}, its), call("msg.send", `{"to":["a","b"]}`))
		if _, sends := got[0].(*protocol.Send); sends != ok {
			t.Errorf("of at most %d recipients: got %s", most, show(got))
		}
	}
}

// holdPersonal holds a request of a user's to what the broker relies on.
func holdPersonal(t *testing.T, r protocol.Request) {
	switch r := r.(type) {
	case *protocol.Authenticate:
		c := r.Credential
		if c.Kind == 0 || len(c.Secret) > 8192 || len(c.User) > parley.MaxNameBytes || len(c.Device) > parley.MaxNameBytes {
			t.Fatalf("%+v", r)
		}
	case *protocol.Send:
		for i := range r.Letters {
			holdLetter(t, &r.Letters[i])
		}
	case *protocol.Inbox:
		if r.Delivery == nil || r.Topic != "" || r.Delivery.AckWait < 0 || r.Delivery.MaxInFlight < 0 {
			t.Fatalf("%+v", r)
		}
	case *protocol.Ack:
		if r.Sub == 0 || len(r.Ranges) == 0 || len(r.Ranges) > 2000 || r.Delay < 0 {
			t.Fatalf("%+v", r)
		}
		for _, s := range r.Ranges {
			if s.First < 1 || s.Last < s.First || s.Last > parley.MaxSeq {
				t.Fatalf("%+v", r)
			}
		}
	case *protocol.MarkRead:
		if r.Seq > parley.MaxSeq {
			t.Fatalf("%+v", r)
		}
	default: // no user's
	}
}

func holdLetter(t *testing.T, l *broker.Letter) {
	if len(l.To) == 0 || len(l.To) > 100 {
		t.Fatalf("%d recipients", len(l.To))
	}
	for _, user := range l.To {
		if name, err := parley.ParseUser(user); err != nil || name != user {
			t.Fatalf("recipient %q", user)
		}
	}
	m := l.Message
	m.Topic = "/a"
	holdMessage(t, &m)
}

// FuzzDecodeForUsers begins where FuzzDecode does not come easily.
func FuzzDecodeForUsers(f *testing.F) {
	f.Add("auth", `{"token":"a.b.c","device":"d"}`)
	f.Add("msg.send", `{"to":["a","b"],"text":"hi","id":"m","receipts":true}`)
	f.Add("msg.send", `{"messages":[{"to":"a"}]}`)
	f.Add("ack", `{"sub":1,"seqs":[1],"ranges":[[2,3]]}`)
	f.Add("nak", `{"sub":1,"seqs":[1],"delay_ms":5}`)
	f.Add("nak", `{"sub":1,"seqs":[1],"dead":true,"reason":"x"}`)
	f.Add("inbox.open", `{"ack_wait_ms":1000,"max_in_flight":5,"last":1}`)
	f.Add("inbox.history", `{"peer":"b","limit":1}`)
	f.Add("inbox.read", `{"seq":1}`)
	f.Add("subscribe", `{"topic":"/a","durable":"b","max_deliver":3}`)
	f.Fuzz(func(t *testing.T, method, params string) {
		c := newCodec()
		requests, err := c.Decode(nil, wire.Frame{Text: true, Payload: []byte(call(method, params))})
		if err != nil || len(requests) > jsonrpc.MaxBatch {
			t.Fatalf("%d requests, error %v", len(requests), err)
		}
		for _, r := range requests {
			hold(t, c, r)
		}
	})
}
