package appserver

import (
	"bytes"
	"context"
	"sync/atomic"
	"time"

	"github.com/flogtool/flogtool/rpc"
)

const (
	mergeQueue = 16               // blocks that may wait for each client of a shared run
	maxStall   = 10 * time.Second // for which one client may delay the others in total; a choice
)

// A sharedRun is one run for several clients: all whose requests came during the run
// before. A client that disconnects does not affect the others. The run ends when the
// last client has disconnected.
//
// Each client has a queue of output, and the run waits for room in every queue. A client
// that has delayed the others for maxStall in total loses its connection.
type sharedRun struct {
	r         *runner
	cancel    context.CancelFunc // of the run
	clients   []*sharer          // guarded by r.mu until begin
	connected atomic.Int32       // clients whose connections have not ended

	ended        bool // these three are set before the queues are closed
	signal, code any
}

// A sharer is one client of a shared run.
type sharer struct {
	ctx     context.Context // of its connection
	watcher *rpc.Remote
	queue   chan output  // closed at the end of the run
	waited  atomic.Int64 // nanoseconds for which the run has waited for room in the queue
}

// output is a block of one stream of a run.
type output struct {
	stream string
	data   []byte
}

// join adds a request to the next run.
func (r *runner) join(c *rpc.Call, watcher *rpc.Remote) {
	g := &sharer{ctx: c.Context(), watcher: watcher, queue: make(chan output, mergeQueue)}
	r.mu.Lock()
	p := r.next
	if p == nil {
		p = &sharedRun{r: r}
		r.next = p
		var ctx context.Context
		ctx, p.cancel = context.WithCancel(r.lifetime)
		r.runs.Go(func() { p.run(ctx) })
	}
	p.clients = append(p.clients, g)
	p.connected.Add(1)
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

// leave is called when a client's connection has ended.
func (p *sharedRun) leave() {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	if p.connected.Add(-1) > 0 {
		return
	}
	if p.r.next == p {
		p.r.next = nil // a later request needs a run of its own
	}
	p.cancel()
}

// run waits for the run before and then runs the command.
func (p *sharedRun) run(ctx context.Context) {
	defer p.cancel()
	defer func() {
		for _, g := range p.clients {
			close(g.queue)
		}
	}()
	(&process{runner: p.r, argv: p.r.argv, env: p.r.environment(), observer: p, log: p.r.at.Log}).run(ctx)
	p.begin() // also if the command did not run: nobody may join any more
}

// serve sends the output and the end to a client.
func (p *sharedRun) serve(g *sharer) {
	sent := map[string]*window{"stdout": new(window), "stderr": new(window)}
	for o := range g.queue {
		_ = sent[o.stream].send(g.ctx, g.watcher, o.stream, o.data) // fails at once if the client has disconnected
	}
	if p.ended {
		client{g.watcher}.end(p.signal, p.code)
	}
}

// The shared run is the observer of its process:

func (p *sharedRun) begin() {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	if p.r.next == p {
		p.r.next = nil
		p.r.at.Log.Info("run shared", "clients", len(p.clients))
	}
}

func (p *sharedRun) stream(name string) func(context.Context, []byte) {
	return func(ctx context.Context, data []byte) {
		o := output{name, bytes.Clone(data)}
		for _, g := range p.clients {
			p.enqueue(ctx, g, o)
		}
	}
}

func (p *sharedRun) end(signal, code any) { p.ended, p.signal, p.code = true, signal, code }

// enqueue puts output into a client's queue. It ends the client's connection if the
// client has delayed the others for too long.
func (p *sharedRun) enqueue(ctx context.Context, g *sharer, o output) {
	select {
	case g.queue <- o:
		return
	case <-g.ctx.Done():
		return
	default:
	}
	start := time.Now()
	defer func() { g.waited.Add(int64(time.Since(start))) }()
	enough := time.NewTimer(maxStall - time.Duration(g.waited.Load()))
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
			if p.connected.Load() > 1 { // otherwise it delays only itself
				p.r.at.Log.Warn("disconnecting a client that delays the others of its run", "peer", g.watcher.RemoteTubID())
				g.watcher.Peer().Disconnect()
			}
		}
	}
}
