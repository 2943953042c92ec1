package backendtest

import (
	"testing"

	"github.com/parley-im/parley/internal/backend"
)

// Log runs the conformance suite of backend.Log. open returns a new, empty log
// and closes it when the test ends.
func Log(t *testing.T, open func(t *testing.T) backend.Log) {
	for _, c := range []struct {
		name string
		test func(r *rig)
	}{
		{"Append/Order", appendOrder},
		{"Append/SeveralStreams", appendSeveralStreams},
		{"Append/Empty", appendEmpty},
		{"Append/Fields", appendFields},
		{"Append/Bodies", appendBodies},
		{"Append/Cancelled", cancelledContext},
		{"Append/Concurrent", appendConcurrent},
		{"Append/ReaderSeesOneOrder", readerSeesOneOrder},
		{"Key/Duplicate", keyDuplicate},
		{"Key/WithinOneAppend", keyWithinOneAppend},
		{"Key/Conflict", keyConflict},
		{"Key/OtherStream", keyOtherStream},
		{"Key/Names", keyNames},
		{"Key/AfterTrim", keyAfterTrim},
		{"Key/Along", keyAlong},
		{"Key/Concurrent", keyConcurrent},
		{"Read/Bounds", readBounds},
		{"Read/Pages", readPages},
		{"Read/MaxBytes", readMaxBytes},
		{"Read/Since", readSince},
		{"Read/Unknown", readUnknown},
		{"Read/Expired", readExpired},
		{"Read/Params", readParams},
		{"Read/Own", readOwn},
		{"Topic/AmongMany", topicAmongMany},
		{"Topic/Siblings", topicSiblings},
		{"Topic/Depth", topicDepth},
		{"Topic/Inboxes", topicInboxes},
		{"Topic/Pages", topicPages},
		{"Count/Limit", countLimit},
		{"Count/NewestN", countNewestN},
		{"Trim/Through", trimThrough},
		{"Trim/Before", trimBefore},
		{"Trim/Messages", trimMessages},
		{"Trim/Bytes", trimBytes},
		{"Trim/Several", trimSeveral},
		{"Trim/Everything", trimEverything},
		{"Trim/Topics", trimTopics},
		{"Trim/BelowTheFloor", trimBelowTheFloor},
		{"Streams/Names", streamsNames},
		{"Random", randomOperations},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(newRig(t, open(t))) })
	}
}
