package collect

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/gatherer/archive"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/banana"
)

// What a publisher of ours keeps beside an incident is fetched before the
// incident is stored: what is stored is whole.
//
// Spec: docs/wire-additions.md, "Incidents".
const (
	maxAttachments  = 16
	maxAttachment   = 256 << 20 // bytes
	attachmentPiece = 256 << 10 // bytes of one answer
)

// bringAttachments stores the attachments of an incident as
// incidents/TUBID/NAME.ATTACHMENT. A publisher that is none of ours, or that has
// removed the incident meanwhile, has none.
func (p *Session) bringAttachments(ctx context.Context, name string) error {
	if !wire.SupportsExtensions(p.remote.Peer()) {
		return nil
	}
	var parts []any
	err := p.remote.Call(ctx, "flog_parts", rpc.Pos(name), &parts)
	if _, ok := errors.AsType[*rpc.RemoteError](err); ok {
		return nil
	}
	if err != nil {
		return err
	}
	if len(parts) > maxAttachments {
		return fmt.Errorf("%d attachments, more than %d", len(parts), maxAttachments)
	}
	for _, v := range parts {
		part, _ := v.(event.Tuple)
		if len(part) != 2 {
			return errors.New("a part is no pair of name and size")
		}
		attachment, _ := banana.Text(part[0])
		size, ok := banana.Int(part[1])
		switch {
		case attachment == incident.FlogPart || !incident.ValidAttachment(attachment):
			continue // fetched as events; or a part that we pass over
		case !ok || size < 0 || size > maxAttachment:
			return fmt.Errorf("attachment %q of %d bytes: more than %d", attachment, size, maxAttachment)
		}
		err := p.c.cfg.Archive.StoreAttachment(archive.ID{Tub: p.tub, Name: name}, attachment, func(w io.Writer) error {
			return p.copyPart(ctx, w, name, attachment, size)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// copyPart copies a part of an incident of that size, piece by piece.
func (p *Session) copyPart(ctx context.Context, w io.Writer, name, part string, size int64) error {
	for offset := int64(0); offset < size; {
		var piece []byte
		if err := p.remote.Call(ctx, "flog_read", rpc.Pos(name, part, offset, attachmentPiece), &piece); err != nil {
			return err
		}
		if len(piece) == 0 || int64(len(piece)) > size-offset {
			return fmt.Errorf("attachment %q: %d bytes at %d of %d", part, len(piece), offset, size)
		}
		if _, err := w.Write(piece); err != nil {
			return err
		}
		offset += int64(len(piece))
	}
	return nil
}
