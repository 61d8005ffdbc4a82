package publish

import (
	"context"
	"log/slog"
	"strings"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
)

// Offers keeps the logport offered to gatherers: each has a reconnecting connection
// of its own, and is offered the logport again on every connection.
type Offers struct {
	Gatherers []string     // FURLs, or files of FURLs, one a line; files are read again
	Logport   *rpc.Methods // what is offered
	Control   *rpc.Methods // offered too, to gatherers that support the extensions; or nil
	Tub       *rpc.Tub
	Log       *slog.Logger

	p        *Publisher
	running  map[string]*rpc.Reconnector // by FURL
	reported map[string]string           // the last complaint about an entry of Gatherers
}

// Offer offers until ctx ends.
func (p *Publisher) Offer(ctx context.Context, o Offers) {
	o.p, o.running, o.reported = p, map[string]*rpc.Reconnector{}, map[string]string{}
	defer func() {
		for _, rc := range o.running {
			rc.Stop()
		}
	}()
	for {
		o.update()
		if !o.readsFiles() {
			<-ctx.Done()
			return
		}
		if !sleep(ctx, furlPoll) {
			return
		}
	}
}

// readsFiles reports whether any entry is a file, which may change.
func (o *Offers) readsFiles() bool {
	for _, g := range o.Gatherers {
		if !isFURL(g) {
			return true
		}
	}
	return false
}

func isFURL(entry string) bool { return strings.HasPrefix(entry, "pb:") }

// update starts and stops connections so that they are those of the FURLs that the
// configuration and its files name now.
func (o *Offers) update() {
	wanted := map[string]rpc.FURL{}
	for _, entry := range o.Gatherers {
		furls, err := furlsOf(entry)
		o.complain(entry, err)
		for _, furl := range furls {
			wanted[furl.String()] = furl
		}
	}
	for key, rc := range o.running {
		if _, ok := wanted[key]; !ok {
			rc.Stop()
			delete(o.running, key)
		}
	}
	for key, furl := range wanted {
		if o.running[key] == nil {
			o.running[key] = o.Tub.KeepConnected(furl, o.offer)
		}
	}
}

// furlsOf returns the FURLs that an entry of the configuration means: those that can
// be read, and why others cannot.
func furlsOf(entry string) ([]rpc.FURL, error) {
	if !isFURL(entry) {
		return rpc.ReadFURLs(entry)
	}
	furl, err := rpc.ParseFURL(entry)
	if err != nil {
		return nil, err
	}
	return []rpc.FURL{furl}, nil
}

// complain reports once what is wrong with an entry.
func (o *Offers) complain(entry string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if o.reported[entry] == text {
		return
	}
	o.reported[entry] = text
	if err != nil {
		o.p.cfg.Report(event.Unusual, "a gatherer cannot be offered the logport", slog.String("gatherer", entry), slog.String("err", text))
	}
}

// offer gives a gatherer the logport, as the original does: a call without
// answer, with the TubID in bytes. Spec: foolscap-wire.md section 6.6.
func (o *Offers) offer(ctx context.Context, gatherer *rpc.Remote) {
	tubID := []byte(o.Tub.ID())
	err := gatherer.Send(wire.MethodLogport, rpc.Pos(tubID, o.Logport))
	if err == nil && o.Control != nil && wire.SupportsExtensions(gatherer.Peer()) {
		err = gatherer.Send(wire.MethodFlogControl, rpc.Pos(tubID, o.Control))
	}
	if err != nil {
		o.Log.Info("offer to gatherer", "tub", gatherer.Peer().TubID(), "err", err)
		return
	}
	<-ctx.Done() // the reference is held as long as the connection
}
