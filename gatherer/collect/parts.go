package collect

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/flogtool/flogtool/gatherer/archive"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
)

// Bounds of the attachments of one incident.
const (
	maxAttachments = 16
	maxAttachment  = 256 << 20 // bytes
)

// fetchParts stores the attachments of an incident, before the incident itself: an
// incident that is stored is whole. A publisher that does not support the
// extensions, or does not have the incident any more, has none.
//
// Spec: docs/wire-additions.md, "Incidents".
func (s *Session) fetchParts(ctx context.Context, id archive.ID) error {
	if !wire.SupportsExtensions(s.remote.Peer()) {
		return nil
	}
	parts, err := wire.ListParts(ctx, s.remote, id.Name)
	if _, refused := errors.AsType[*rpc.RemoteError](err); refused {
		return nil
	}
	if err != nil {
		return err
	}
	if len(parts) > maxAttachments {
		return fmt.Errorf("%d attachments, more than %d", len(parts), maxAttachments)
	}
	for _, part := range parts {
		if !incident.ValidAttachment(part.Name) {
			continue // the flog file, which is fetched as events, or an unknown kind
		}
		if part.Size > maxAttachment {
			return fmt.Errorf("attachment %q of %d bytes: more than %d", part.Name, part.Size, maxAttachment)
		}
		err := s.c.cfg.Archive.StoreAttachment(id, part.Name, func(w io.Writer) error {
			return wire.ReadPart(ctx, s.remote, id.Name, part, w)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
