package logport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/internal/durable"
)

// maxRecoveries is how many incidents of dead processes are made in a minute: a
// service that is restarted in a loop must not fill the disk. They are counted
// by their names, since every process starts anew.
const maxRecoveries = 6

// Recovered is what became of one dead process's rings.
type Recovered struct {
	Slot     string // its directory
	File     string // the rings file
	PID      int
	Incident string // its name; "" if none was made
	Events   int
	Torn     int   // events that were being written and are left out
	Err      error // why no incident was made
}

// RecoverDir makes incidents of what dead processes left in the slots of a Dir,
// and completes the incidents that they were recording. Slots that a process
// uses are passed over: the process has done it. ringDir is the processes'
// Config.RingDir.
func RecoverDir(dir, ringDir string) ([]Recovered, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("logport: recover: %w", err)
	}
	var all []Recovered
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err != nil || n < 0 || n >= maxSlots || !e.IsDir() {
			continue
		}
		s, err := lockSlot(filepath.Join(dir, e.Name()))
		if errors.Is(err, durable.ErrInUse) {
			continue
		}
		if err != nil {
			return all, fmt.Errorf("logport: recover: %w", err)
		}
		if ringDir != "" {
			s.rings = filepath.Join(ringDir, e.Name())
		}
		store, err := incident.OpenStore(incident.StoreConfig{Dir: s.file("incidents")})
		if err == nil {
			all = append(all, s.recover(store)...)
			err = store.Close()
		}
		s.close()
		if err != nil {
			return all, fmt.Errorf("logport: recover: %w", err)
		}
	}
	return all, nil
}

// recover makes an incident of each run in the slot that ended without closing
// its log.
func (s *slot) recover(store *incident.Store) []Recovered {
	var all []Recovered
	paths := boxes(s.rings)
	for _, path := range paths {
		box, err := openDeadBox(path)
		if errors.Is(err, errAlive) {
			continue
		}
		r := Recovered{Slot: s.path, File: path, Err: err}
		if err == nil {
			if box.state == boxOpen {
				s.recoverBox(store, box, &r)
			}
			box.close()
		}
		if r.Err != nil || r.Incident != "" {
			all = append(all, r)
		}
	}
	s.removeOld(paths)
	return all
}

// removeOld keeps the last few rings files, and of older ones those that no
// incident was made of for as long as there is a reason to hope.
func (s *slot) removeOld(paths []string) {
	for len(paths) > keptBoxes {
		os.Remove(paths[0])
		os.Remove(crashFile(s, paths[0]))
		paths = paths[1:]
	}
}

// crashFile is where the runtime of the process with this rings file prints a
// fatal error.
func crashFile(s *slot, box string) string {
	return s.file("crash-" + strings.TrimPrefix(filepath.Base(box), boxPrefix))
}

func (s *slot) recoverBox(store *incident.Store, box *deadBox, r *Recovered) {
	r.PID = box.meta.PID
	if recent(store) >= maxRecoveries {
		r.Err = fmt.Errorf("%d incidents were made in the last minute: left for a later start", maxRecoveries)
		return
	}
	events, torn := readRings(box.mem)
	r.Events, r.Torn = len(events), torn
	name, ok := madeBefore(store, box.meta.Incarnation)
	if !ok {
		name, r.Err = recordDead(store, box, events, torn, readCrash(crashFile(s, box.path)))
	}
	if r.Err == nil {
		r.Err = box.mark(boxRecovered)
	}
	if r.Err == nil {
		r.Incident = name
		os.Remove(crashFile(s, box.path))
	}
}

// recent counts the incidents that begun in the last minute.
func recent(store *incident.Store) int {
	n := 0
	for _, name := range store.Names("") {
		if since := time.Since(incident.NameTime(name)); since < time.Minute && since > -time.Minute {
			n++
		}
	}
	return n
}

const endedMessage = "process %d ended without closing its log"

// madeBefore finds the incident of a run if its maker died before it could mark
// the rings file.
func madeBefore(store *incident.Store, incarnation string) (name string, ok bool) {
	names := store.Names("")
	for _, name := range slices.Backward(names[max(0, len(names)-2*maxRecoveries):]) {
		d, err := store.Trigger(name)
		if err != nil {
			continue
		}
		e := event.FromDict(d)
		if e.Incarnation() == incarnation && e.Facility() == ownFacility {
			return name, true
		}
	}
	return "", false
}

// recordDead makes the incident. Its trigger is an event of our own behind the
// last one of the dead process.
func recordDead(store *incident.Store, box *deadBox, events []deadEvent, torn int, crash string) (string, error) {
	last := deadEvent{num: event.NoNum}
	at := box.meta.Started.UnixNano()
	if len(events) > 0 {
		last = events[len(events)-1]
		at = last.rec.UnixNano()
	}
	b := event.AppendRecord(nil, at, event.Scary, fmt.Sprintf(endedMessage, box.meta.PID))
	b = event.AppendFacility(b, ownFacility)
	b = event.AppendInt(event.AppendKey(b, "pid"), int64(box.meta.PID))
	if crash != "" {
		b = event.AppendString(event.AppendKey(b, "trace"), crash)
	}
	trigger := incident.Trigger{Num: last.num + 1, Record: b, At: time.Now()}
	versions := event.Dict{}
	for name, v := range box.meta.Versions {
		versions = append(versions, event.Item{Key: name, Value: v})
	}
	slices.SortFunc(versions, func(a, b event.Item) int { return strings.Compare(a.Key.(string), b.Key.(string)) })
	rec, err := store.Record(context.Background(), trigger, &deadSource{append(events, deadEvent{trigger.Num, b})}, incident.Config{
		Program:     box.meta.Name,
		Incarnation: box.meta.Incarnation,
		PID:         box.meta.PID,
		Versions:    versions,
		Reason:      incident.Recovered,
		Dropped:     torn,
	})
	return rec.Name, err
}

// deadSource gives a recorder what a dead process logged.
type deadSource struct{ events []deadEvent }

// Next implements [incident.Source].
func (d *deadSource) Next(context.Context) (event.Num, event.Record, error) {
	if len(d.events) == 0 {
		return event.NoNum, nil, io.EOF
	}
	e := d.events[0]
	d.events = d.events[1:]
	return e.num, e.rec, nil
}

// Logged implements [incident.Source].
func (d *deadSource) Logged() event.Num { return event.NoNum }

// maxCrash bounds what is kept of a fatal error's trace, in bytes.
const maxCrash = 256 << 10

// readCrash returns what Go printed of a fatal error, "" if nothing.
func readCrash(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	data, _ := io.ReadAll(io.LimitReader(f, maxCrash))
	return maskFURLs(strings.ToValidUTF8(string(data), "\uFFFD"))
}

// crashOwner is the Logport to whose file the runtime prints fatal errors: there
// is one such setting in a process, and the last one that took it gives it back.
var crashOwner atomic.Pointer[Logport]

// catchCrash has the runtime print fatal errors to a file in the slot too.
func (lp *Logport) catchCrash() {
	if lp.box == nil || lp.cfg.NoCrashOutput {
		return
	}
	f, err := os.OpenFile(crashFile(lp.slot, lp.box.path), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil {
		defer f.Close() // the runtime keeps a copy
		err = debug.SetCrashOutput(f, debug.CrashOptions{})
	}
	if err != nil {
		lp.report(unusual, "a fatal error's trace will not be kept", slog.String("err", err.Error()))
		return
	}
	crashOwner.Store(lp)
}

func (lp *Logport) releaseCrash() {
	if crashOwner.CompareAndSwap(lp, nil) {
		debug.SetCrashOutput(nil, debug.CrashOptions{})
	}
	if lp.box != nil {
		os.Remove(crashFile(lp.slot, lp.box.path))
	}
}

// recoverSlot makes incidents of what dead processes left in this one's slot. It
// runs before the first recording, since incidents are told in the order of
// their names.
func (lp *Logport) recoverSlot() {
	if lp.slot == nil {
		return
	}
	for _, r := range lp.slot.recover(lp.incidents.store) {
		if r.Err != nil {
			lp.report(unusual, "a dead process's rings could not be recovered",
				slog.String("file", r.File), slog.String("err", r.Err.Error()))
			continue
		}
		lp.incidents.recorded.Add(1)
		lp.report(event.Operational, "a dead process's rings were recovered", slog.Int("pid", r.PID),
			slog.String("incident", r.Incident), slog.Int("events", r.Events), slog.Int("torn", r.Torn))
	}
}
