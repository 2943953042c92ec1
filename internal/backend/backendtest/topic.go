package backendtest

import (
	"fmt"
	"strings"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// topicAmongMany: the messages of one topic and below are found among many
// others of the stream, whether they came in commits of their own or mixed.
func topicAmongMany(r *rig) {
	for round := range 40 {
		var batch []*parley.Message
		for i := range 50 {
			batch = append(batch, message(fmt.Sprintf("/a/other%d", (round*50+i)%400), "noise"))
		}
		switch round % 4 {
		case 1:
			batch[7], batch[8] = message("/a/b", fmt.Sprint(round)), message("/a/b", "again")
		case 2:
			batch[0], batch[30], batch[49] = message("/a/b/c", "c"), message("/a/b/d/e", "e"), message("/a/b", "b")
		case 3:
			r.publish("/a/b", fmt.Sprint("alone ", round))
		}
		r.append(entries(batch...))
	}
	for _, topic := range []parley.Topic{"/a", "/a/b", "/a/b/c", "/a/b/d", "/a/b/d/e", "/a/other7", "/a/none", "/a/b/d/e/f"} {
		r.everyWay("a", topic)
	}
}

// everyWay reads one topic forwards and backwards, in pages, and from points
// inside the stream that are not the topic's own messages.
func (r *rig) everyWay(s parley.Stream, topic parley.Topic) {
	r.Helper()
	messages := r.want.stream(s).messages
	for _, reverse := range []bool{false, true} {
		for _, limit := range []int{0, 1, 7} {
			r.expect(backend.Query{Stream: s, Topic: topic, Limit: limit, Reverse: reverse})
		}
		for i := range 8 {
			from := messages[i*len(messages)/8].Seq
			to := messages[min(i*len(messages)/8+len(messages)/3, len(messages)-1)].Seq
			r.expect(backend.Query{Stream: s, Topic: topic, After: from, Limit: 5, Reverse: reverse})
			r.expect(backend.Query{Stream: s, Topic: topic, Before: from, Limit: 5, Reverse: reverse})
			r.expect(backend.Query{Stream: s, Topic: topic, After: from, Before: to, Limit: 5, Reverse: reverse})
		}
	}
}

// topicSiblings: a topic whose name merely begins with another one's is not
// below it, whatever byte follows.
func topicSiblings(r *rig) {
	topics := []string{
		"/a", "/ab", "/a-", "/a/b", "/a/bc", "/a/b-c", "/a/b!", "/a/b0", "/a/b\u00ff", "/a/b.c", "/a/b/c", "/a/b/cc", "/a/b/c/d",
		"/a/B", "/a/c/b", "/a/a/b", "/a/" + strings.Repeat("b", 200), "/a/b/\U0010ffff", "/ab/b", "/$inbox/a/b",
	}
	for round := range 6 {
		for _, topic := range topics {
			r.publish(topic, fmt.Sprint(round))
		}
	}
	for _, topic := range topics {
		t := parley.Topic(topic)
		r.everyWay(t.Stream(), t)
	}
	r.everything()
}

// topicDepth: the index reaches every ancestor up to the sixteenth segment.
func topicDepth(r *rig) {
	var topics []string
	for depth := range parley.MaxTopicSegments {
		topics = append(topics, "/deep"+strings.Repeat("/x", depth))
	}
	for round := range 10 {
		var batch []*parley.Message
		for _, topic := range topics {
			batch = append(batch, message(topic, fmt.Sprint(round)))
		}
		batch = append(batch, message("/deep"+strings.Repeat("/x", 7)+"/y"+strings.Repeat("/x", 8), "aside"))
		r.append(entries(batch...))
	}
	for _, topic := range topics {
		r.everyWay("deep", parley.Topic(topic))
	}
	r.everything()
}

// topicInboxes: each inbox is a stream of its own.
func topicInboxes(r *rig) {
	topics := []string{"/$inbox/ann", "/$inbox/ann/work", "/$inbox/anna", "/$inbox/an", "/$inbox", "/$inboxes/ann", "/ann"}
	for i := range 5 {
		for _, topic := range topics {
			r.publish(topic, fmt.Sprint(i))
		}
	}
	for _, topic := range topics {
		r.everyWay(parley.Topic(topic).Stream(), parley.Topic(topic))
	}
	r.everything()
}

// topicPages: a read that follows Next, and goes on when more has come, misses
// nothing of the topic and repeats nothing, though others fill the stream.
func topicPages(r *rig) {
	q := backend.Query{Stream: "a", Topic: "/a/x", Limit: 3}
	var got []*parley.Message
	for round := range 30 {
		r.fill("/a/noise", 17*round%40)
		for i := range round % 5 {
			r.publish("/a/x", fmt.Sprint(round, " ", i))
		}
		for {
			page, err := r.log.Read(r.Context(), q)
			if err != nil {
				r.Fatal(err)
			}
			got = append(got, page.Messages...)
			if page.Next < q.After {
				r.Fatalf("Next %d after %d", page.Next, q.After)
			}
			q.After = page.Next
			if !page.More {
				break
			}
		}
	}
	if fault := compare(got, r.want.find(backend.Query{Stream: "a", Topic: "/a/x"})); fault != "" {
		r.Error(fault)
	}
}
