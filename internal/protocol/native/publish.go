package native

import (
	"fmt"

	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/jsonform"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

type publishParams struct {
	jsonform.Publication `json:",inline"`

	Messages jsonrpc.List[jsonform.Publication] `json:"messages"`
}

func (c *Codec) publish(call jsonrpc.Call) (protocol.Request, error) {
	var p publishParams
	p.Messages.Max = c.terms.BatchMessages
	if err := call.Params.Decode(&p); err != nil {
		return nil, err
	}
	if p.Messages.Items != nil {
		return c.publishBatch(call.ID, &p)
	}
	messages := make([]broker.Publication, 1)
	if err := p.Fill(&messages[0], c.producer); err != nil {
		return nil, err
	}
	return &protocol.Publish{Publish: broker.Publish{Ref: call.ID, Messages: messages}}, nil
}

func (c *Codec) publishBatch(ref string, p *publishParams) (protocol.Request, error) {
	if p.Given() {
		return nil, invalid("messages stands alone: topic, body and the like belong inside it")
	}
	if len(p.Messages.Items) == 0 {
		return nil, invalid("messages is empty")
	}
	messages := make([]broker.Publication, len(p.Messages.Items))
	for i := range messages {
		if err := p.Messages.Items[i].Fill(&messages[i], c.producer); err != nil {
			return nil, fmt.Errorf("messages[%d]: %w", i, err)
		}
	}
	return &protocol.Publish{Publish: broker.Publish{Ref: ref, Batch: true, Messages: messages}}, nil
}
