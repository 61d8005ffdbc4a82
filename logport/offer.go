package logport

import (
	"bufio"
	"context"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
)

// offers keeps the logport offered to gatherers: each has a reconnecting
// connection of its own, and is offered the logport anew on every connection.
type offers struct {
	lp      *Logport
	running map[string]*rpc.Reconnector // by FURL
	told    map[string]string           // last complaint about an entry of Config.Gatherers
}

// furlPoll is how often a file of FURLs is looked at.
const furlPoll = 2 * time.Second

// run offers until ctx ends.
func (o *offers) run(ctx context.Context) {
	defer func() {
		for _, rc := range o.running {
			rc.Stop()
		}
	}()
	for {
		o.update()
		if !o.watched() {
			<-ctx.Done()
			return
		}
		sleep(ctx, furlPoll)
		if ctx.Err() != nil {
			return
		}
	}
}

// watched reports whether any entry is a file, which may change.
func (o *offers) watched() bool {
	for _, g := range o.lp.cfg.Gatherers {
		if !strings.HasPrefix(g, "pb:") {
			return true
		}
	}
	return false
}

// update starts and stops connections so that they are those of the FURLs that
// the configuration and its files name now.
func (o *offers) update() {
	wanted := map[string]rpc.FURL{}
	for _, entry := range o.lp.cfg.Gatherers {
		lines := []string{entry}
		if !strings.HasPrefix(entry, "pb:") {
			var err error
			if lines, err = readFURLs(entry); err != nil {
				o.complain(entry, err)
				continue
			}
		}
		o.complain(entry, nil)
		for _, line := range lines {
			furl, err := rpc.ParseFURL(line)
			if err != nil {
				o.complain(entry, err)
				continue
			}
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
			o.running[key] = o.lp.tub.KeepConnected(furl, o.lp.offer)
		}
	}
}

// complain tells what is wrong with an entry, once.
func (o *offers) complain(entry string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if o.told[entry] == text {
		return
	}
	o.told[entry] = text
	if err != nil {
		o.lp.report(unusual, "a gatherer cannot be offered the logport", slog.String("gatherer", entry), slog.String("err", text))
	}
}

// readFURLs returns the lines of a file that hold a FURL. A file that is not
// there yet holds none.
func readFURLs(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var furls []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line != "" && !strings.HasPrefix(line, "#") {
			furls = append(furls, line)
		}
	}
	return furls, lines.Err()
}

// offer gives a gatherer the logport, as the original does: a call without
// answer, with the TubID in bytes. Spec: foolscap-wire.md section 6.6.
func (lp *Logport) offer(ctx context.Context, gatherer *rpc.Remote) {
	err := gatherer.Send("logport", rpc.Pos([]byte(lp.tub.ID()), lp.offered.methods))
	if err == nil && lp.cfg.AllowControl && wire.SupportsExtensions(gatherer.Peer()) {
		err = gatherer.Send("flog_control", rpc.Pos([]byte(lp.tub.ID()), lp.offeredControl))
	}
	if err != nil {
		lp.cfg.Log.Info("offer to gatherer", "tub", gatherer.Peer().TubID(), "err", err)
		return
	}
	<-ctx.Done() // the reference is held as long as the connection
}
