package logport_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/logport"
)

// TestMain lets this binary be the process that dies.
func TestMain(m *testing.M) {
	if dir := os.Getenv("LOGPORT_TEST_CHILD"); dir != "" {
		child(dir, os.Getenv("LOGPORT_TEST_DEATH"))
		return
	}
	os.Exit(m.Run())
}

const childGoroutines = 3

// child logs as fast as it can and notes, after each call has returned, how far
// it is: in the first bytes of a file that it rewrites in place.
func child(dir, death string) {
	lp, err := logport.Open(logport.Config{Name: "victim", Dir: dir, Listen: "off", RingBytes: 2 << 20})
	if err != nil {
		panic(err)
	}
	lp.AddVersion("victim", "1.2.3")
	switch death {
	case "maps":
		lp.Log(context.Background(), slog.LevelInfo, "about to write a map twice")
		m := map[int]int{}
		for range 8 {
			go func() {
				for i := 0; ; i++ {
					m[i%10] = i
				}
			}()
		}
		select {}
	case "memory":
		lp.Log(context.Background(), slog.LevelInfo, "about to use up the memory")
		fmt.Println("ready")
		os.Stdin.Read(make([]byte, 1)) // until its memory is limited
		for hoard := []byte{}; ; {
			hoard = append(hoard, bytes.Repeat([]byte{1}, 1<<20)...)
			runtime.KeepAlive(hoard)
		}
	case "panic":
		panic("the application's own panic")
	case "recording":
		for i := range 3000 {
			lp.Log(context.Background(), slog.LevelDebug, "before", slog.Int("i", i))
		}
		fmt.Println("ready")
		lp.DeclareIncident(context.Background(), "being recorded")
		for i := 0; ; i++ {
			lp.Log(context.Background(), slog.LevelDebug, "after", slog.Int("i", i))
			time.Sleep(time.Millisecond)
		}
	}
	for g := range childGoroutines {
		progress, err := os.Create(filepath.Join(dir, fmt.Sprint("progress", g)))
		if err != nil {
			panic(err)
		}
		go func() {
			pad := strings.Repeat("x", 3000)
			var b [8]byte
			for i := 1; ; i++ {
				size := i * 7919 % 300
				if i%500 == 0 {
					size = 3000
				}
				if i%1000 == 0 {
					lp.Log(context.Background(), slog.LevelDebug, "long", logport.Facility(fmt.Sprint("f", g)), slog.Int("i", i), slog.String("pad", strings.Repeat("y", 40_000)))
				} else {
					lp.Log(context.Background(), slog.LevelDebug, "event", logport.Facility(fmt.Sprint("f", g)), slog.Int("i", i), slog.String("pad", pad[:size]))
				}
				binary.LittleEndian.PutUint64(b[:], uint64(i))
				if i%16 == 0 { // a system call costs more than the logging it notes
					progress.WriteAt(b[:], 0)
				}
			}
		}()
	}
	fmt.Println("ready")
	select {}
}

func startChild(t *testing.T, dir, death string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LOGPORT_TEST_CHILD="+dir, "LOGPORT_TEST_DEATH="+death)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if death == "" || death == "recording" {
		out.Read(make([]byte, 16)) // "ready"
	}
	return cmd
}

// recovered opens dir again and returns the events of the one incident made.
func recovered(t *testing.T, dir string) (trigger *event.Event, events []*event.Event) {
	t.Helper()
	all, err := logport.RecoverDir(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || all[0].Err != nil {
		t.Fatalf("RecoverDir returned %+v, want one incident", all)
	}
	if all[0].Torn != 0 {
		// A call that had not returned may be torn; it is left out.
		if all[0].Torn > childGoroutines {
			t.Errorf("%d events are torn, by %d goroutines", all[0].Torn, childGoroutines)
		}
	}
	for _, list := range incidentFiles(t, dir) {
		events = list
	}
	if len(events) == 0 {
		t.Fatal("the incident is empty")
	}
	trigger = events[len(events)-1]
	if want := fmt.Sprintf("process %d ended without closing its log", all[0].PID); trigger.Text("message") != want {
		t.Errorf("the last event is %q, want %q", trigger.Text("message"), want)
	}
	return trigger, events[:len(events)-1]
}

// TestKillAtAnyMoment: after SIGKILL at a random moment of full-rate logging
// every event whose call had returned is recovered, as far back as its ring had
// room, and none is torn.
func TestKillAtAnyMoment(t *testing.T) {
	rounds := 10
	if os.Getenv("FLOG_SOAK") != "" {
		rounds = 50
	}
	if testing.Short() {
		rounds = 2
	}
	for round := range rounds {
		dir := t.TempDir()
		cmd := startChild(t, dir, "")
		time.Sleep(time.Duration(rand.IntN(150_000)) * time.Microsecond) // the moment is what is tested
		cmd.Process.Kill()
		cmd.Wait()
		_, events := recovered(t, dir)

		seen := map[string][]int64{}
		last := event.Num(0)
		for i, e := range events {
			n, _ := e.Num()
			if i > 0 && n <= last {
				t.Fatalf("round %d: event %d stands behind %d", round, n, last)
			}
			last = n
			if !strings.HasPrefix(e.Facility(), "f") || e.Facility() == "flogtool.logport" {
				continue
			}
			v, _ := e.Get("i")
			seen[e.Facility()] = append(seen[e.Facility()], v.(int64))
			if pad := e.Text("pad"); pad != strings.Repeat(pad[:min(1, len(pad))], len(pad)) {
				t.Fatalf("round %d: event %d is not whole", round, n)
			}
		}
		for g := range childGoroutines {
			list := seen[fmt.Sprint("f", g)]
			data, _ := os.ReadFile(filepath.Join(dir, fmt.Sprint("progress", g)))
			var returned uint64
			if len(data) == 8 {
				returned = binary.LittleEndian.Uint64(data)
			}
			if len(list) == 0 {
				if returned > 0 {
					t.Errorf("round %d: nothing of goroutine %d is recovered, although %d calls had returned", round, g, returned)
				}
				continue
			}
			for i := 1; i < len(list); i++ {
				if list[i] != list[i-1]+1 {
					t.Fatalf("round %d: goroutine %d: event %d follows %d", round, g, list[i], list[i-1])
				}
			}
			if newest := list[len(list)-1]; uint64(newest) < returned {
				t.Errorf("round %d: goroutine %d had logged %d events, the newest recovered is %d", round, g, returned, newest)
			}
			if list[0] > 1 && len(list) < 300 {
				t.Errorf("round %d: goroutine %d: only %d events are recovered", round, g, len(list))
			}
		}
	}
}

// TestKillWhileRecording: killed at a random moment of a recording, the next
// start completes the incident: all whole lines that were in its file are in it,
// and nothing unreadable is left.
func TestKillWhileRecording(t *testing.T) {
	rounds := 8
	if os.Getenv("FLOG_SOAK") != "" {
		rounds = 50
	}
	for round := range rounds {
		dir := t.TempDir()
		cmd := startChild(t, dir, "recording")
		time.Sleep(time.Duration(rand.IntN(150_000)) * time.Microsecond) // the moment is what is tested
		cmd.Process.Kill()
		cmd.Wait()
		plain, _ := filepath.Glob(filepath.Join(dir, "0", "incidents", "*.flog"))
		var written [][]byte
		for _, file := range plain {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			lines := bytes.SplitAfter(data, []byte("\n"))
			for _, line := range lines {
				if bytes.HasPrefix(line, []byte(`{"from"`)) && bytes.HasSuffix(line, []byte("\n")) {
					written = append(written, line)
				}
			}
		}
		lp := open(t, logport.Config{Dir: dir, Listen: "off", RingBytes: 1 << 20})
		lp.Close()
		files, _ := filepath.Glob(filepath.Join(dir, "0", "incidents", "*"))
		all := incidentFiles(t, dir)
		if len(files) != len(all) {
			t.Fatalf("round %d: %q holds more than complete incidents", round, files)
		}
		if len(plain) > 0 && len(written) > 0 {
			completed := all[plain[0]+".zst"]
			if len(completed) < len(written) {
				t.Errorf("round %d: the completed incident has %d events, %d had been written", round, len(completed), len(written))
			}
		}
		recovered := 0
		for _, events := range all {
			if strings.HasSuffix(events[len(events)-1].Text("message"), "ended without closing its log") {
				recovered++
			}
		}
		if recovered != 1 {
			t.Errorf("round %d: %d incidents tell of the death, want 1", round, recovered)
		}
	}
}

// TestRecoverOnOpen: the next Open on the slot makes the incident, once, under
// the incarnation and versions of the dead process; a log that was closed makes
// none.
func TestRecoverOnOpen(t *testing.T) {
	dir := t.TempDir()
	cmd := startChild(t, dir, "")
	cmd.Process.Kill()
	cmd.Wait()
	for range 3 {
		lp, err := logport.Open(logport.Config{Dir: dir, Listen: "off", RingBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		lp.Close()
	}
	files := incidentFiles(t, dir)
	if len(files) != 1 {
		t.Fatalf("%d incidents, want 1", len(files))
	}
	boxes, _ := filepath.Glob(filepath.Join(dir, "0", "rings-*"))
	if len(boxes) != 4 {
		t.Errorf("%d rings files are kept, want the dead one's and three more: %q", len(boxes), boxes)
	}
	for file, events := range files {
		data, err := exec.Command("zstd", "-dc", file).Output()
		if err != nil {
			data = nil // no zstd here: the library has read it above
		}
		if len(data) > 0 && !bytes.Contains(data, []byte(`"victim": "1.2.3"`)) {
			t.Errorf("the header does not name the victim's version: %.300s", data)
		}
		for _, e := range events {
			if !strings.Contains(boxes[0]+boxes[1]+boxes[2]+boxes[3], e.Incarnation()) {
				t.Errorf("an event is of incarnation %q", e.Incarnation())
				break
			}
		}
	}
}

func TestFatalErrorIsInTheIncident(t *testing.T) {
	for death, want := range map[string]string{
		"maps":  "runtime/maps.fatal", // the line "fatal error: concurrent map writes" itself is printed before
		"panic": "the application's own panic",
	} {
		if death == "maps" && raceDetector {
			continue // it finds the race first, and says so in its own words
		}
		t.Run(death, func(t *testing.T) {
			dir := t.TempDir()
			cmd := startChild(t, dir, death)
			cmd.Wait()
			trigger, _ := recovered(t, dir)
			if trace := trigger.Text("trace"); !strings.Contains(trace, want) || !strings.Contains(trace, "goroutine ") {
				t.Errorf("the trigger's trace is %.200q, want %q in it", trace, want)
			}
		})
	}
}

// limitMemory puts a process into a control group of its own with little memory.
func limitMemory(t *testing.T, pid int, bytes int) {
	t.Helper()
	name := fmt.Sprint("flogtool-test-", pid)
	for _, c := range []struct{ dir, limit string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, // version 1
		{"/sys/fs/cgroup", "memory.max"},                   // version 2
	} {
		dir := filepath.Join(c.dir, name)
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() { os.Remove(dir) })
		if os.WriteFile(filepath.Join(dir, c.limit), fmt.Append(nil, bytes), 0o644) != nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, pid), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Skip("no control group can be made here to limit a process's memory")
}

// TestOutOfMemory: the kernel's killer leaves no chance to say anything; the
// rings are there all the same.
func TestOutOfMemory(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LOGPORT_TEST_CHILD="+dir, "LOGPORT_TEST_DEATH=memory")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	out.Read(make([]byte, 16)) // "ready"
	limitMemory(t, cmd.Process.Pid, 200<<20)
	stdin.Write([]byte{'\n'})
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the process ended by %v, want the kernel's killer", err)
	}
	_, events := recovered(t, dir)
	if last := events[len(events)-1].Text("message"); last != "about to use up the memory" {
		t.Errorf("the last event before the death is %q", last)
	}
}

// TestRecoveriesAreBounded: a service that dies in a loop makes at most six
// incidents a minute, and the evidence that is left is not thrown away at once.
func TestRecoveriesAreBounded(t *testing.T) {
	dir := t.TempDir()
	made := 0
	for range 9 {
		cmd := startChild(t, dir, "")
		cmd.Process.Kill()
		cmd.Wait()
		all, err := logport.RecoverDir(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			if r.Incident != "" {
				made++
			}
		}
	}
	if made > 6 || len(incidentFiles(t, dir)) > 6 {
		t.Errorf("%d incidents were made of 9 deaths, want at most 6", len(incidentFiles(t, dir)))
	}
}

// TestOrphanedTraces: the trace of a fatal error whose rings file is gone, because a
// process was killed between removing the one and the other, or because the rings
// were where nothing survives, does not stay for ever; what it says is reported.
func TestOrphanedTraces(t *testing.T) {
	dir := t.TempDir()
	slot := filepath.Join(dir, "0")
	if err := os.Mkdir(slot, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"crash-00": "", "crash-01": "fatal error: all goroutines are asleep\n\ngoroutine 1"} {
		if err := os.WriteFile(filepath.Join(slot, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all, err := logport.RecoverDir(dir, "")
	if err != nil || len(all) != 1 || all[0].Err == nil || !strings.Contains(all[0].Err.Error(), "fatal error: all goroutines are asleep") {
		t.Errorf("RecoverDir returned %+v, %v: want the fatal error", all, err)
	}
	if left, _ := filepath.Glob(filepath.Join(slot, "crash-*")); len(left) != 0 {
		t.Errorf("%v are left", left)
	}
	// A process's own trace is not an orphan.
	lp := open(t, logport.Config{Dir: dir, Listen: "off"})
	if all, err := logport.RecoverDir(dir, ""); err != nil || len(all) != 0 {
		t.Errorf("RecoverDir beside a running process returned %+v, %v", all, err)
	}
	lp.Flush(t.Context())
	if own, _ := filepath.Glob(filepath.Join(slot, "crash-"+lp.Incarnation())); len(own) != 1 {
		t.Error("the running process's own file is gone")
	}
}

func TestDamagedRingsFile(t *testing.T) {
	dir := t.TempDir()
	cmd := startChild(t, dir, "")
	cmd.Process.Kill()
	cmd.Wait()
	boxes, _ := filepath.Glob(filepath.Join(dir, "0", "rings-*"))
	data, err := os.ReadFile(boxes[0])
	if err != nil {
		t.Fatal(err)
	}
	damage := map[string]func([]byte) []byte{
		"empty":           func(b []byte) []byte { return nil },
		"short":           func(b []byte) []byte { return b[:100] },
		"no magic":        func(b []byte) []byte { b[0] = 'x'; return b },
		"another version": func(b []byte) []byte { b[8] = 9; return b },
		"damaged meta":    func(b []byte) []byte { b[70] ^= 1; return b },
	}
	for name, f := range damage {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			os.Mkdir(filepath.Join(dir, "0"), 0o700)
			path := filepath.Join(dir, "0", filepath.Base(boxes[0]))
			if err := os.WriteFile(path, f(bytes.Clone(data)), 0o600); err != nil {
				t.Fatal(err)
			}
			all, err := logport.RecoverDir(dir, "")
			if err != nil || len(all) != 1 || all[0].Err == nil {
				t.Errorf("RecoverDir returned %+v, %v: want the file named", all, err)
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("the file is not kept: %v", err)
			}
		})
	}
	// Whatever bytes are flipped in the memory, what is recovered is whole.
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		b := bytes.Clone(data)
		for range 50 {
			b[16<<10+rng.IntN(len(b)-16<<10)] ^= byte(1 + rng.IntN(255))
		}
		dir := t.TempDir()
		os.Mkdir(filepath.Join(dir, "0"), 0o700)
		if err := os.WriteFile(filepath.Join(dir, "0", filepath.Base(boxes[0])), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := logport.RecoverDir(dir, ""); err != nil {
			t.Fatal(err)
		}
		for _, events := range incidentFiles(t, dir) {
			for _, e := range events {
				if pad := e.Text("pad"); pad != strings.Repeat(pad[:min(1, len(pad))], len(pad)) {
					t.Fatalf("a damaged event was recovered: %.200s", e.AppendJSON(nil))
				}
			}
		}
	}
}
