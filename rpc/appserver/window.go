package appserver

import (
	"context"

	"github.com/flogtool/flogtool/rpc"
)

// windowBlocks bounds the unanswered blocks of one stream. The blocks of standard output
// and standard error, 128 KiB each, stay below the 4 MiB of waiting calls at which a
// peer stops reading. A peer whose command or terminal accepts nothing for hours
// therefore still answers pings and does not count as lost.
const windowBlocks = 15

// A window holds the unanswered calls of one stream, oldest first.
type window []*rpc.Pending

// send calls method with a block. The caller may change the block when send returns. If
// there are too many unanswered calls it first waits for the oldest, or for ctx, and
// returns the error of that call.
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
