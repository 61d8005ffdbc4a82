package tail

import (
	"context"
	"fmt"
	"sync"

	"github.com/flogtool/flogtool/rpc"
)

// backlog chooses by Last, Around and Parents among the events that a process
// had buffered when it was first attached to, as dump does among those of a file.
// What the process logs afterwards is selected by the other conditions only.
type backlog struct {
	sel    *Select
	window window[*live]
	due    []*live // to be shown when all were taken

	// With Parents the chain is known at the end only: all are kept until then.
	chain *chain
	all   []*live
}

func newBacklog(sel *Select) *backlog {
	b := &backlog{sel: sel, window: window[*live]{sel: sel}}
	if sel.Parents != nil {
		b.chain = &chain{ref: sel.Parents}
	}
	return b
}

// add takes the next buffered event. Conditions are those that are not known to
// hold for it.
func (b *backlog) add(it *live, conditions *Select) {
	if b.chain != nil {
		b.chain.add(it)
		b.all = append(b.all, it)
		return
	}
	if conditions.match(it) {
		b.choose(it)
	}
}

func (b *backlog) choose(it *live) {
	show := func(it *live) error { b.due = append(b.due, it); return nil }
	b.window.add(it, func() *live { return it }, show, func() error { return show(it) }) // errEnough: of these only
}

// end returns what is to be shown, and what of that is not there.
func (b *backlog) end() ([]*live, error) {
	if b.chain != nil {
		if !b.chain.found {
			return nil, fmt.Errorf("no event #%d is among those buffered", b.chain.ref.Num)
		}
		wanted := b.chain.wanted()
		for _, it := range b.all {
			if wanted(it) && b.sel.match(it) {
				b.choose(it)
			}
		}
	}
	err := b.window.end(func(it *live) error { b.due = append(b.due, it); return nil })
	return b.due, err
}

// choosing reports whether buffered events are being chosen among.
func (l *follower) choosing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.backlog != nil
}

// hold reports whether an event is one of the buffered ones, which are shown
// later if at all.
func (l *follower) hold(it *live, conditions *Select) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.backlog == nil {
		return false
	}
	l.backlog.add(it, conditions)
	return true
}

// chosen shows what was chosen of the buffered events, which are all there now.
// From now on events are shown as they come.
func (l *follower) chosen(ctx context.Context) {
	l.mu.Lock()
	b := l.backlog
	l.backlog = nil
	l.mu.Unlock()
	if b == nil || ctx.Err() != nil {
		return
	}
	due, err := b.end()
	for _, it := range due {
		if l.push(ctx, it, true) != nil {
			return
		}
	}
	if err != nil {
		l.note("%v", err)
	}
}

// mark has [follower.chosen] called when a publisher of the original's has sent
// what it had buffered. It does not say so itself; but it sends that to one
// subscriber after the other, so that the first event of a second subscription
// comes after the last buffered one of the first. There is one: connecting to the
// original logs events.
func (l *follower) mark(ctx context.Context, remote *rpc.Remote) (stop func()) {
	var once sync.Once
	pending := remote.Start("subscribe_to_all", rpc.Pos(&rpc.Methods{Name: "RILogObserver.foolscap.lothar.com", Map: map[string]func(*rpc.Call) (any, error){
		"msg":  func(*rpc.Call) (any, error) { once.Do(func() { l.chosen(ctx) }); return nil, nil },
		"done": func(*rpc.Call) (any, error) { return nil, nil },
	}}, true))
	var ended sync.WaitGroup
	ended.Go(func() {
		select {
		case <-pending.Done():
		case <-ctx.Done():
			return
		}
		var subscription *rpc.Remote
		if pending.Result(&subscription) == nil {
			subscription.Send("unsubscribe", rpc.Args{}) // the buffered ones are sent in any case
		}
	})
	return ended.Wait
}
