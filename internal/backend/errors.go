package backend

import (
	"fmt"

	"github.com/parley-im/parley"
)

// ErrStorageFull is a write refused because the disk is almost full. Reads and
// deletes go on, and so do writes once there is room again.
var ErrStorageFull = fmt.Errorf("the disk is almost full, nothing is stored until there is room: %w", parley.ErrUnavailable)
