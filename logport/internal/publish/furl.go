package publish

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/internal/durable"
	"github.com/flogtool/flogtool/rpc"
)

// furlPoll is how often a file of FURLs is looked at.
const furlPoll = 2 * time.Second

// Objects are the objects that readers reach by the FURLs in our furl files. When the
// name in a file changes, by [RotateFURL], everything that was begun with the old
// FURL ends. One goroutine uses it at a time.
type Objects struct {
	p    *Publisher
	tub  *rpc.Tub
	ctx  context.Context // ends all objects
	list []*object
}

type object struct {
	file   string // the furl file, "" in memory
	make   func(ctx context.Context) *rpc.Methods
	tell   func(rpc.FURL)
	furl   rpc.FURL
	cancel context.CancelFunc
}

// NewObjects returns no objects yet; those that are added end with ctx.
func (p *Publisher) NewObjects(ctx context.Context, tub *rpc.Tub) *Objects {
	return &Objects{p: p, tub: tub, ctx: ctx}
}

// Add registers an object under the name in file, or under a new one if file is "" or
// does not exist yet. tell gets its FURL, now and after each rotation.
func (o *Objects) Add(file string, makeObject func(ctx context.Context) *rpc.Methods, tell func(rpc.FURL)) error {
	one := &object{file: file, make: makeObject, tell: tell}
	if err := o.register(one); err != nil {
		return err
	}
	o.list = append(o.list, one)
	return nil
}

func (o *Objects) register(one *object) (err error) {
	ctx, cancel := context.WithCancel(o.ctx)
	obj := one.make(ctx)
	if one.file == "" {
		one.furl, err = o.tub.Register(obj, "")
	} else {
		one.furl, err = o.tub.RegisterFile(obj, one.file)
	}
	if err != nil {
		cancel()
		return err
	}
	one.cancel = cancel
	one.tell(one.furl)
	return nil
}

// Watch looks for furl files that were rotated until ctx ends.
func (o *Objects) Watch(ctx context.Context) {
	for sleep(ctx, furlPoll) {
		for _, one := range o.list {
			furl, err := rpc.ReadFURLFile(one.file)
			// A file that is being replaced, or was taken away, changes nothing.
			if err != nil || furl.Name == one.furl.Name || furl.Tub != one.furl.Tub {
				continue
			}
			o.tub.Unregister(one.furl.Name)
			one.cancel()
			if err := o.register(one); err != nil {
				o.p.cfg.Report(event.Unusual, "a rotated FURL cannot be used", slog.String("file", one.file), slog.String("err", err.Error()))
				continue
			}
			o.p.cfg.Report(event.Unusual, "a FURL was rotated", slog.String("file", one.file))
		}
	}
}

// sleep waits for d and reports whether ctx is still alive then.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// RotateFURL puts a new swissnum into a furl file, durably, and returns the new FURL.
// A process that runs with it uses it within seconds, and ends what was begun with
// the old one.
func RotateFURL(file string) (rpc.FURL, error) {
	furl, err := rpc.ReadFURLFile(file)
	if err != nil {
		return rpc.FURL{}, err
	}
	furl.Name = rpc.NewSwissnum()
	if err := durable.WriteFile(filepath.Clean(file), []byte(furl.String()+"\n"), 0o600); err != nil {
		return rpc.FURL{}, fmt.Errorf("%s: %w", file, err)
	}
	return furl, nil
}
