package appserver

import (
	"bytes"
	"context"
	"sync/atomic"
	"time"

	"github.com/flogtool/flogtool/rpc"
)

const (
	mergeQueue    = 16               // blocks that wait for each of those who share a run
	mergePatience = 10 * time.Second // that one of them may make the others wait in all; taste
)

// A party is the clients that share one run: all whose requests came while the
// run before was going on. A client that leaves changes nothing for the others;
// when the last has left the run ends.
//
// Each has a queue of output, and the run waits for room in every one. Who has
// made the others wait for mergePatience in all loses its connection.
type party struct {
	r       *runner
	cancel  context.CancelFunc // of the run
	guests  []*guest           // guarded by r.mu until begin
	present atomic.Int32       // guests that have not left

	ended        bool // these three are set before the queues are closed
	signal, code any
}

// A guest is one client in a party.
type guest struct {
	ctx     context.Context // its connection's
	watcher *rpc.Remote
	queue   chan output  // closed at the end of the run
	waited  atomic.Int64 // nanoseconds the run has waited for room in the queue
}

// output is some bytes of one of a run's streams.
type output struct {
	stream string
	data   []byte
}

// join lets a request take part in the next run.
func (r *runner) join(c *rpc.Call, watcher *rpc.Remote) {
	g := &guest{ctx: c.Context(), watcher: watcher, queue: make(chan output, mergeQueue)}
	r.mu.Lock()
	p := r.next
	if p == nil {
		p = &party{r: r}
		r.next = p
		var ctx context.Context
		ctx, p.cancel = context.WithCancel(r.life)
		r.runs.Go(func() { p.run(ctx) })
	}
	p.guests = append(p.guests, g)
	p.present.Add(1)
	r.mu.Unlock()

	answered := make(chan struct{})
	c.Then(func() { close(answered) })
	stay := context.AfterFunc(g.ctx, p.leave)
	r.runs.Go(func() {
		defer r.leave()
		defer stay()
		select {
		case <-answered:
		case <-g.ctx.Done():
		}
		p.serve(g)
	})
}

// leave is called when a guest's connection has ended.
func (p *party) leave() {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	if p.present.Add(-1) > 0 {
		return
	}
	if p.r.next == p {
		p.r.next = nil // whoever comes now is to have a run
	}
	p.cancel()
}

// run waits for the run before, and then is the next.
func (p *party) run(ctx context.Context) {
	defer p.cancel()
	defer func() {
		for _, g := range p.guests {
			close(g.queue)
		}
	}()
	(&process{runner: p.r, argv: p.r.argv, audience: p, log: p.r.at.Log}).run(ctx)
	p.begin() // a run that was not to be is joined by nobody either
}

// serve sends a guest what happens.
func (p *party) serve(g *guest) {
	sent := map[string]*window{"stdout": new(window), "stderr": new(window)}
	for o := range g.queue {
		_ = sent[o.stream].send(g.ctx, g.watcher, o.stream, o.data) // fails at once if it has gone
	}
	if p.ended {
		client{g.watcher}.end(p.signal, p.code)
	}
}

// The party as the audience of its run:

func (p *party) begin() {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	if p.r.next == p {
		p.r.next = nil
		p.r.at.Log.Info("run shared", "clients", len(p.guests))
	}
}

func (p *party) stream(name string) func(context.Context, []byte) {
	return func(ctx context.Context, data []byte) {
		o := output{name, bytes.Clone(data)}
		for _, g := range p.guests {
			p.give(ctx, g, o)
		}
	}
}

func (p *party) end(signal, code any) { p.ended, p.signal, p.code = true, signal, code }

// give puts output into a guest's queue, and ends its connection if it has had
// its time.
func (p *party) give(ctx context.Context, g *guest, o output) {
	select {
	case g.queue <- o:
		return
	case <-g.ctx.Done():
		return
	default:
	}
	start := time.Now()
	defer func() { g.waited.Add(int64(time.Since(start))) }()
	enough := time.NewTimer(mergePatience - time.Duration(g.waited.Load()))
	defer enough.Stop()
	for {
		select {
		case g.queue <- o:
			return
		case <-g.ctx.Done():
			return
		case <-ctx.Done():
			return
		case <-enough.C:
			if p.present.Load() > 1 { // else nobody else waits
				p.r.at.Log.Warn("a client is too slow for those it shares a run with", "peer", g.watcher.RemoteTubID())
				g.watcher.Peer().Disconnect()
			}
		}
	}
}
