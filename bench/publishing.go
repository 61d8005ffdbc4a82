package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/logport"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
)

// logRequest logs an event of three attributes.
func logRequest(lp *logport.Logport, i int) {
	lp.Log(context.Background(), slog.LevelInfo, "request served",
		slog.String("path", "/v1/orders"), slog.Int("status", i), slog.Float64("ms", 1.25))
}

// connectTo connects to lp over TLS on the loopback interface. The caller closes the Tub if
// it is not nil.
func connectTo(lp *logport.Logport, features string) (*rpc.Remote, *rpc.Tub, error) {
	tub, err := rpc.NewTub(rpc.Config{Features: features})
	if err != nil {
		return nil, nil, err
	}
	text, err := lp.FURL()
	if err != nil {
		return nil, tub, err
	}
	furl, err := rpc.ParseFURL(text)
	if err != nil {
		return nil, tub, err
	}
	r, err := tub.Connect(context.Background(), furl)
	return r, tub, err
}

func benchPublishing(r *report) {
	ours, dropped, err := oursToOurs(3 * time.Second)
	if err != nil {
		r.Errorf("ours to ours: %v", err)
		return
	}
	r.Row("ours to ours, events of three attributes, decoded", ours, "events/s")
	r.Row("of them dropped", float64(dropped), "events")
	plain, err := oursToOriginalMethods(2 * time.Second)
	if err != nil {
		r.Errorf("by the original's methods: %v", err)
	}
	r.Row("ours to ours, by the original's methods", plain, "events/s")
	original, err := originalToItself()
	if err != nil {
		r.Errorf("the original: %v", err)
		return
	}
	r.Row("the original to itself", original, "events/s")
	r.Ratio("publishing-vs-foolscap", ours/original)

	none, stalled := stalledSubscribers(r, 10, nil)
	r.Row("logging, nobody subscribed", none, "ns/event")
	r.Row("logging, ten stalled subscribers", stalled, "ns/event")
	r.Ratio("publishing-ten-stalled-vs-none", stalled/none)

	none, stalled = stalledSubscribers(r, 1, func(watched *logport.Logport) {
		before := resident()
		n, start := 0, time.Now()
		for time.Since(start) < 10*time.Second {
			for range 1000 {
				logRequest(watched, n)
				n++
			}
		}
		r.Row("10 s at full rate, one stalled subscriber", float64(n), "events")
		r.Row("resident memory grown meanwhile", float64(resident()-before)/(1<<20), "MiB")
	})
	r.Ratio("publishing-one-stalled-vs-none", stalled/none)
}

// resident returns the resident memory of this process in bytes.
func resident() int64 {
	debug.FreeOSMemory()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, pages int64
	fmt.Sscan(string(data), &size, &pages)
	return pages * int64(os.Getpagesize())
}

// oursToOurs logs as fast as a subscriber receives, for the time d. It returns the rate of
// events that are received and decoded, and the number of events that were dropped.
func oursToOurs(d time.Duration) (perSecond float64, dropped uint64, err error) {
	lp, err := logport.Open(logport.Config{})
	if err != nil {
		return 0, 0, err
	}
	defer lp.Close()
	remote, tub, err := connectTo(lp, wire.Features)
	if err != nil {
		return 0, 0, err
	}
	defer tub.Close()
	var delivered, lost atomic.Uint64
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- wire.Subscribe(ctx, remote, wire.SubscribeOptions{CatchUp: true}, func(b *wire.Batch) error {
			for num, rec := range b.Records() {
				if _, err := rec.Event(num, b.Incarnation); err != nil {
					return err
				}
			}
			delivered.Add(uint64(b.Count))
			lost.Add(b.Dropped)
			return nil
		})
	}()
	start, logged := time.Now(), 0
	for time.Since(start) < d {
		// Log no more than fits into the subscription's window.
		for uint64(logged) > delivered.Load()+lost.Load()+10_000 {
			select {
			case err := <-done:
				return 0, 0, err
			default:
				time.Sleep(50 * time.Microsecond)
			}
		}
		for range 500 {
			logRequest(lp, logged)
			logged++
		}
	}
	return float64(delivered.Load()) / time.Since(start).Seconds(), lost.Load(), nil
}

// oursToOriginalMethods is oursToOurs with subscribe_to_all, which sends one event a message.
func oursToOriginalMethods(d time.Duration) (float64, error) {
	lp, err := logport.Open(logport.Config{})
	if err != nil {
		return 0, err
	}
	defer lp.Close()
	remote, tub, err := connectTo(lp, "")
	if err != nil {
		return 0, err
	}
	defer tub.Close()
	var delivered atomic.Uint64
	observer := &rpc.Methods{Name: "RILogObserver.foolscap.lothar.com", Map: map[string]func(*rpc.Call) (any, error){
		"msg": func(c *rpc.Call) (any, error) {
			if _, ok := c.Args.Pos[0].(event.Dict); !ok {
				return nil, fmt.Errorf("not an event")
			}
			delivered.Add(1)
			return nil, nil
		},
	}}
	var subscription *rpc.Remote
	if err := remote.Call(context.Background(), "subscribe_to_all", rpc.Pos(observer), &subscription); err != nil {
		return 0, err
	}
	start, logged := time.Now(), 0
	for time.Since(start) < d {
		for uint64(logged) > delivered.Load()+1500 {
			if time.Since(start) > 3*d {
				return 0, fmt.Errorf("%d of %d events were delivered", delivered.Load(), logged)
			}
			time.Sleep(50 * time.Microsecond)
		}
		for range 100 {
			logRequest(lp, logged)
			logged++
		}
	}
	return float64(delivered.Load()) / time.Since(start).Seconds(), nil
}

// stalledSubscribers measures the time of a log call in ns, without subscribers and with
// subscribers that never answer, in turns. Before that it calls before, if that is not nil,
// with the logport that has the subscribers.
func stalledSubscribers(r *report, subscribers int, before func(*logport.Logport)) (none, stalled float64) {
	quiet := openForBench(r, logport.Config{})
	defer quiet.Close()
	watched := openForBench(r, logport.Config{})
	defer watched.Close()
	release := make(chan struct{})
	for range subscribers {
		remote, tub, err := connectTo(watched, wire.Features)
		if err != nil {
			r.Errorf("%v", err)
			return 0, 0
		}
		defer tub.Close()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go wire.Subscribe(ctx, remote, wire.SubscribeOptions{}, func(*wire.Batch) error { <-release; return nil })
	}
	for watched.Stats().Subscribers < subscribers {
		time.Sleep(time.Millisecond)
	}
	if before != nil {
		before(watched)
	}
	logTo := func(lp *logport.Logport) func(int) {
		return func(n int) {
			for i := range n {
				logRequest(lp, i)
			}
		}
	}
	a, b := &candidate{log: logTo(quiet)}, &candidate{log: logTo(watched)}
	compare(20, 100_000, []*candidate{a, b})
	close(release) // a Tub waits for its handlers when it is closed
	return a.best, b.best
}

// originalToItself measures how many events of a Python program a Python subscriber in
// another process receives in a second. The program logs more than the connection carries.
func originalToItself() (float64, error) {
	python := "/usr/bin/python3"
	publisher := exec.Command(python, "-u", "-c", originalPublisher)
	out, err := publisher.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := publisher.Start(); err != nil {
		return 0, err
	}
	defer publisher.Wait()
	defer publisher.Process.Kill()
	furl, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	result, err := exec.CommandContext(ctx, python, "-u", "-c", originalSubscriber, strings.TrimSpace(furl)).Output()
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(string(result)), 64)
}

const originalPublisher = `
from twisted.internet import reactor, task
from foolscap.api import Tub
from foolscap.logging import log
import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); port = s.getsockname()[1]; s.close()
t = Tub()
t.listenOn("tcp:%d:interface=127.0.0.1" % port)
t.setLocation("tcp:127.0.0.1:%d" % port)
t.startService()
print(t.getLogPortFURL())
n = [0]
def some():
    for i in range(20):
        n[0] += 1
        log.msg("request served", path="/v1/orders", status=n[0], ms=1.25)
task.LoopingCall(some).start(0.01)
reactor.run()
`

const originalSubscriber = `
import sys, time
from twisted.internet import reactor
from foolscap.api import Tub, Referenceable
from foolscap.logging.interfaces import RILogObserver
from zope.interface import implementer
@implementer(RILogObserver)
class Observer(Referenceable):
    n = 0
    start = None
    def remote_msg(self, d):
        if self.start is None:
            self.start = time.time()
            reactor.callLater(3, self.done)
        self.n += 1
    def done(self):
        print(self.n / (time.time() - self.start))
        reactor.stop()
t = Tub()
t.startService()
o = Observer()
d = t.getReference(sys.argv[1])
d.addCallback(lambda p: p.callRemote("subscribe_to_all", o))
d.addErrback(lambda f: (sys.stderr.write(str(f)), reactor.stop()))
reactor.run()
`
