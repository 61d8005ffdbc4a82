package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/flogtool/flogtool/incident"
)

// streamName is that of the stream of incidents.
const streamName = "FLOG_INCIDENTS"

// UnavailableError is the error of [Bus.Publish] and [Bus.PutObject] if nothing can
// be published now: the server is away, slow, or out of space. Other errors are
// about that one message or file.
type UnavailableError struct{ Err error }

func (e *UnavailableError) Error() string { return "NATS is not available: " + e.Err.Error() }

func (e *UnavailableError) Unwrap() error { return e.Err }

// Unavailable returns true.
func (e *UnavailableError) Unavailable() bool { return true }

// refusals are what NATS says of a message that it will never accept.
var refusals = []error{
	nats.ErrMaxPayload, nats.ErrBadSubject, nats.ErrHeadersNotSupported,
	jetstream.ErrStreamMessageExceedsMaximum, jetstream.ErrBadObjectMeta,
}

// judge returns err as an UnavailableError unless it is a refusal.
func (b *Bus) judge(err error) error {
	if err == nil || slices.ContainsFunc(refusals, func(r error) bool { return errors.Is(err, r) }) {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.store = nil // somebody may have deleted the stream: see streams
	return &UnavailableError{err}
}

// streams returns the object store. It makes that and the stream if need be.
func (b *Bus) streams(ctx context.Context) (jetstream.ObjectStore, error) {
	b.mu.Lock()
	store := b.store
	b.mu.Unlock()
	if store != nil {
		return store, nil
	}
	// A quarter is for the incidents, which are small, half for their files.
	_, err := b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        streamName,
		Description: "incidents, stored and classified",
		Subjects:    []string{incident.IncidentSubjects},
		MaxBytes:    b.cfg.MaxStore / 4,
		MaxAge:      b.cfg.MaxAge,
		Discard:     jetstream.DiscardOld,
	})
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", streamName, err)
	}
	store, err = b.js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{
		Bucket:      incident.ObjectStore,
		Description: "the files of incidents",
		MaxBytes:    b.cfg.MaxStore / 2,
		TTL:         b.cfg.MaxAge,
	})
	if err != nil {
		return nil, fmt.Errorf("object store %s: %w", incident.ObjectStore, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.store = store
	return store, nil
}

// Publish publishes payload on subject, which is one of an incident, and returns
// when the stream has it. If the stream has a message with this subject already,
// Publish publishes nothing and returns the payload of that message: the caller decides
// whether it is the same incident.
func (b *Bus) Publish(ctx context.Context, subject string, payload []byte) (earlier []byte, err error) {
	_, err = b.streams(ctx)
	if err == nil {
		_, err = b.js.Publish(ctx, subject, payload, jetstream.WithExpectLastSequencePerSubject(0))
	}
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		switch api.ErrorCode {
		case jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant:
			earlier, err = b.last(ctx, subject)
		}
	}
	if err = b.judge(err); err != nil {
		return nil, fmt.Errorf("bus: publish on %s: %w", subject, err)
	}
	return earlier, nil
}

// last returns the payload of the last message that the stream has on subject; it is
// not nil.
func (b *Bus) last(ctx context.Context, subject string) ([]byte, error) {
	stream, err := b.js.Stream(ctx, streamName)
	if err != nil {
		return nil, err
	}
	m, err := stream.GetLastMsgForSubject(ctx, subject)
	if err != nil {
		return nil, err // also if it was deleted meanwhile: Publish is called again
	}
	return append([]byte{}, m.Data...), nil
}

// PutObject stores a file of size bytes under name in the object store, unless it
// is there already. If the store is full, its oldest files are deleted. PutObject
// stores nothing and returns false if the file would take more than half of the
// store.
func (b *Bus) PutObject(ctx context.Context, name string, size int64, file io.ReadSeeker) (stored bool, err error) {
	if size > b.cfg.MaxStore/4 {
		return false, nil
	}
	in := &source{ReadSeeker: file}
	err = b.put(ctx, name, size, in)
	if in.err != nil {
		err = in.err
	} else {
		err = b.judge(err)
	}
	if err != nil {
		return false, fmt.Errorf("bus: store file %q: %w", name, err)
	}
	return true, nil
}

// source keeps the error of reading a file.
type source struct {
	io.ReadSeeker
	err error
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.ReadSeeker.Read(b)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func (s *source) Seek(offset int64, whence int) (int64, error) {
	at, err := s.ReadSeeker.Seek(offset, whence)
	if err != nil {
		s.err = err
	}
	return at, err
}

// errCodeStoreFull is JSStreamStoreFailedF with the text "maximum bytes exceeded".
const errCodeStoreFull jetstream.ErrorCode = 10077

func (b *Bus) put(ctx context.Context, name string, size int64, file io.ReadSeeker) error {
	store, err := b.streams(ctx)
	if err != nil {
		return err
	}
	if info, err := store.GetInfo(ctx, name); err == nil && info.Size == uint64(size) {
		return nil
	}
	meta := jetstream.ObjectMeta{Name: name, Opts: &jetstream.ObjectMetaOptions{
		ChunkSize: uint32(min(128<<10, b.nc.MaxPayload()/2)), // NATS's default, or what fits
	}}
	for range 2 {
		_, err = store.Put(ctx, meta, file)
		api, ok := errors.AsType[*jetstream.APIError](err)
		if !ok || api.ErrorCode != errCodeStoreFull {
			return err
		}
		if err := b.makeRoom(ctx, store, size); err != nil {
			return err
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	return err
}

// errCodeMaxConsumers is JSMaximumConsumersLimitErr.
const errCodeMaxConsumers jetstream.ErrorCode = 10026

// makeRoom deletes the oldest objects until size bytes and a tenth of the store
// are free.
func (b *Bus) makeRoom(ctx context.Context, store jetstream.ObjectStore, size int64) error {
	objects, err := store.List(ctx)
	if api, ok := errors.AsType[*jetstream.APIError](err); ok && api.ErrorCode == errCodeMaxConsumers && b.embedded != nil {
		// Readers have used up the consumers, and List needs one.
		if err := b.sweepConsumers(ctx, objectStream, true); err != nil {
			return err
		}
		objects, err = store.List(ctx)
	}
	if err != nil {
		return err
	}
	slices.SortFunc(objects, func(x, y *jetstream.ObjectInfo) int { return x.ModTime.Compare(y.ModTime) })
	want := size + b.cfg.MaxStore/20
	for _, o := range objects {
		if want <= 0 {
			break
		}
		if err := store.Delete(ctx, o.Name); err != nil {
			return err
		}
		want -= int64(o.Size)
	}
	return nil
}
