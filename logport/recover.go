package logport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/internal/durable"
	"github.com/flogtool/flogtool/logport/internal/ring"
)

// maxRecoveries is how many incidents of dead processes are made in a minute: a
// service that is restarted in a loop must not fill the disk. They are counted
// by the times in their names, since every process starts without a memory of them.
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
			all = append(all, recovery{s, store}.run()...)
			err = store.Close()
		}
		s.close()
		if err != nil {
			return all, fmt.Errorf("logport: recover: %w", err)
		}
	}
	return all, nil
}

// recovery makes incidents of what dead processes left in a slot.
type recovery struct {
	slot  *slot
	store *incident.Store
}

// keptFiles is how many rings files are kept: a restart in a loop must not wipe the
// evidence of the run before.
const keptFiles = 4

// run makes an incident of each run in the slot that ended without closing its log.
func (r recovery) run() []Recovered {
	var all []Recovered
	paths := ring.Files(r.slot.rings)
	for _, path := range paths {
		dead, err := ring.OpenDeadFile(path)
		if errors.Is(err, ring.ErrAlive) {
			continue
		}
		one := Recovered{Slot: r.slot.path, File: path, Err: err}
		if err == nil {
			if dead.Unfinished() {
				r.recover(dead, &one)
			}
			dead.Close()
		}
		if one.Err != nil || one.Incident != "" {
			all = append(all, one)
		}
	}
	for len(paths) > keptFiles {
		// The trace first: nobody looks for one without its rings file.
		os.Remove(crashFile(r.slot, paths[0]))
		os.Remove(paths[0])
		paths = paths[1:]
	}
	return append(all, r.removeOrphans(paths)...)
}

// removeOrphans removes traces whose rings file is gone, which was in a directory that
// did not survive, and returns what they say.
func (r recovery) removeOrphans(rings []string) []Recovered {
	var all []Recovered
	traces, _ := filepath.Glob(r.slot.file(crashPrefix + "*"))
	for _, path := range traces {
		if slices.ContainsFunc(rings, func(file string) bool { return crashFile(r.slot, file) == path }) {
			continue
		}
		if text := readCrash(path); text != "" {
			first, _, _ := strings.Cut(text, "\n")
			all = append(all, Recovered{Slot: r.slot.path, File: path, Err: fmt.Errorf("a fatal error without a rings file: %.200s", first)})
		}
		os.Remove(path)
	}
	return all
}

const crashPrefix = "crash-"

// crashFile is where the runtime of the process with this rings file prints a fatal
// error.
func crashFile(s *slot, rings string) string {
	return s.file(crashPrefix + strings.TrimPrefix(filepath.Base(rings), ring.FilePrefix))
}

func (r recovery) recover(dead *ring.DeadFile, one *Recovered) {
	meta := dead.Meta()
	one.PID = meta.PID
	if recent(r.store) >= maxRecoveries {
		one.Err = fmt.Errorf("%d incidents were made in the last minute: left for a later start", maxRecoveries)
		return
	}
	events, torn := dead.Entries()
	one.Events, one.Torn = len(events), torn
	name, ok := madeBefore(r.store, meta.Incarnation)
	if !ok {
		name, one.Err = recordDead(r.store, meta, events, torn, readCrash(crashFile(r.slot, dead.Path())))
	}
	if one.Err == nil {
		one.Err = dead.MarkRecovered()
	}
	if one.Err == nil {
		one.Incident = name
		os.Remove(crashFile(r.slot, dead.Path()))
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

// madeBefore finds the incident of a run if the process that made it died before it
// could mark the rings file.
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

// recordDead makes the incident. Its trigger is an event that we add after the last
// one of the dead process.
func recordDead(store *incident.Store, meta ring.Meta, events []ring.Entry, torn int, crash string) (string, error) {
	last := ring.Entry{Num: event.NoNum}
	at := meta.Started.UnixNano()
	if len(events) > 0 {
		last = events[len(events)-1]
		at = last.Record.UnixNano()
	}
	b := event.AppendRecord(nil, at, event.Scary, fmt.Sprintf(endedMessage, meta.PID))
	b = event.AppendFacility(b, ownFacility)
	b = event.AppendInt(event.AppendKey(b, "pid"), int64(meta.PID))
	if crash != "" {
		b = event.AppendString(event.AppendKey(b, "trace"), crash)
	}
	trigger := incident.Trigger{Num: last.Num + 1, Record: b, At: time.Now()}
	versions := event.Dict{}
	for name, v := range meta.Versions {
		versions = append(versions, event.Item{Key: name, Value: v})
	}
	slices.SortFunc(versions, func(a, b event.Item) int { return strings.Compare(a.Key.(string), b.Key.(string)) })
	rec, err := store.Record(context.Background(), trigger, &deadSource{append(events, ring.Entry{Num: trigger.Num, Record: b})}, incident.Config{
		Program:     meta.Name,
		Incarnation: meta.Incarnation,
		PID:         meta.PID,
		Versions:    versions,
		Reason:      incident.Recovered,
		Dropped:     torn,
	})
	return rec.Name, err
}

// deadSource gives a recorder what a dead process logged.
type deadSource struct{ events []ring.Entry }

// Next implements [incident.Source].
func (d *deadSource) Next(context.Context) (event.Num, event.Record, error) {
	if len(d.events) == 0 {
		return event.NoNum, nil, io.EOF
	}
	e := d.events[0]
	d.events = d.events[1:]
	return e.Num, e.Record, nil
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
	return maskText(strings.ToValidUTF8(string(data), "\uFFFD"))
}
