package appserver

import (
	"context"

	"github.com/flogtool/flogtool/rpc"
)

// windowBlocks bounds the blocks of one stream that the other side has not said
// it dealt with. Those of standard output and error together, 128 KiB each, stay
// below the 4 MiB of waiting calls at which a peer stops reading: one whose
// command or terminal takes nothing for hours still answers pings, and is not
// mistaken for one that is gone.
const windowBlocks = 15

// A window is the blocks of one stream that are under way, oldest first.
type window []*rpc.Pending

// send calls method with a block, which may be changed when send returns. It
// first waits for the oldest call if too many are under way, and returns that
// one's error. When ctx is done it does not wait.
func (w *window) send(ctx context.Context, to *rpc.Remote, method string, block []byte) error {
	if len(*w) == windowBlocks {
		oldest := (*w)[0]
		*w = (*w)[1:]
		select {
		case <-oldest.Done():
			if err := oldest.Result(nil); err != nil {
				return err
			}
		case <-ctx.Done():
		}
	}
	*w = append(*w, to.Start(method, rpc.Pos(block)))
	return nil
}
