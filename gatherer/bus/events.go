package bus

import (
	"bytes"
	"context"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/incident"
)

// eventBacklog is how many events wait while NATS is slow. More are dropped and
// counted: the log files have them.
const eventBacklog = 4096

type eventMessage struct {
	subject string
	line    []byte
}

// PublishEvent queues an event of the publisher tub, if Config.Events says so. line
// is its line of the log file; it is copied. PublishEvent does not wait: if NATS is
// slow or away, events are dropped.
func (b *Bus) PublishEvent(tub string, ev *event.Event, line []byte) {
	if b.cfg.NoEvents || ev.Level() < b.cfg.Events {
		return
	}
	if len(line) > maxPayload-4096 {
		b.dropped.Add(1)
		return
	}
	m := eventMessage{incident.EventSubject(tub, ev.Level(), ev.Facility()), bytes.Clone(bytes.TrimSuffix(line, []byte{'\n'}))}
	select {
	case b.events <- m:
	default:
		b.dropped.Add(1)
	}
}

// Run publishes the events that are queued, until ctx is done, and logs how many
// were dropped, at most once a second.
func (b *Bus) Run(ctx context.Context) {
	report := time.NewTicker(time.Second)
	defer report.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-b.events:
			if err := b.nc.Publish(m.subject, m.line); err != nil {
				b.dropped.Add(1)
			}
		case <-report.C:
			if n := b.dropped.Swap(0); n > 0 {
				b.log.Warn("events not published on NATS, which is too slow or away", "dropped", n)
			}
		}
	}
}
