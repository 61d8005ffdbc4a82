package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/flogtool/flogtool/event/flogfile"
)

// fileEvents is the number of events in the file that dump and filter read, of about 86 MB.
const fileEvents = 300_000

// makeLog returns a flog file of n events such as a busy service writes: 70 % NOISY, 24 %
// OPERATIONAL, 5 % UNUSUAL to CURIOUS, 1 % WEIRD and above; with parents, 40 facilities,
// formats, long messages, failures, non-ASCII texts and large integers. The content depends
// on n only.
func makeLog(n int) []byte {
	rnd := rand.New(rand.NewPCG(1, uint64(n)))
	var facilities []string
	for _, a := range []string{"net", "store", "web", "auth", "sched"} {
		for _, b := range []string{"io", "cache", "queue", "retry", "gc", "peer", "log", "idx"} {
			facilities = append(facilities, a+"."+b)
		}
	}
	pick := func(texts ...string) string { return texts[rnd.IntN(len(texts))] }
	b := make([]byte, 0, n*300)
	b = append(b, flogfile.Magic...)
	b = append(b, `{"header": {"type": "log-file-observer", "versions": {"twisted": "22.4.0", "foolscap": "21.7.0", "bigapp": "1.0"}, "pid": 4242, "threshold": 10}}`+"\n"...)
	now := 1700000000.0
	var stack []int
	for i := range n {
		now += rnd.ExpFloat64() / 400
		level := 10
		switch x := rnd.Float64(); {
		case x >= .99:
			level = []int{30, 30, 30, 35, 40}[rnd.IntN(5)]
		case x >= .94:
			level = []int{23, 25, 28}[rnd.IntN(3)]
		case x >= .70:
			level = 20
		}
		b = fmt.Appendf(b, `{"from": "local", "rx_time": %.6f, "d": {`, now+rnd.ExpFloat64()/200)
		if len(stack) > 0 && rnd.Float64() < .8 {
			b = fmt.Appendf(b, `"parent": %d, `, stack[rnd.IntN(len(stack))])
		}
		b = fmt.Appendf(b, `"facility": "%s", `, pick(facilities...))
		switch y := rnd.Float64(); {
		case y < .55:
			b = fmt.Appendf(b, `"format": "%%(op)s of %%(key)s took %%(ms).3f ms (%%(n)d bytes)", "op": "%s", "key": "k-%08x", "ms": %v, "n": %s, `,
				pick("read", "write", "list", "erase"), rnd.Uint32(), rnd.ExpFloat64()*3.3, pick("0", "17", "4096", "1048576", "8589934592", "36893488147419103232"))
		case y < .995:
			b = fmt.Appendf(b, `"message": "%s", `, pick("peer answered", "cache miss", "retry scheduled", "queue drained", `gr\u00fc\u00dfe aus dem cache \u2603`))
		case y < .998:
			b = fmt.Appendf(b, `"message": "dump of state: %s", `, strings.Repeat("x", 1000+rnd.IntN(19000)))
		default:
			b = append(b, `"failure": {"@": "Failure", "str": "[Failure instance: Traceback: <class 'KeyError'>: 'k'\napp/store.py:7:get\n]", "repr": "<twisted.python.failure.Failure builtins.KeyError: 'k'>", "traceback": "Traceback (most recent call last):\n  File \"app/store.py\", line 7, in get\n    return table[key]\nbuiltins.KeyError: 'k'\n"}, "why": "lookup", "isError": 1, "message": "", `...)
		}
		b = fmt.Appendf(b, `"num": %d, "level": %d, "time": %.6f, "incarnation": ["0123456789abcdef", null]}}`+"\n", i, level, now)
		if rnd.Float64() < .1 {
			if stack = append(stack, i); len(stack) > 6 {
				stack = stack[1:]
			}
		}
	}
	return b
}

// buildCommand builds one of our commands into dir and returns its path.
func buildCommand(dir, name string) (string, error) {
	bin := filepath.Join(dir, name)
	cmd := exec.Command("go", "build", "-o", bin, "./cmd/"+name)
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %v: %s", name, err, out)
	}
	return bin, nil
}

// originalFlogtool returns the path of the original's flogtool, or "" if it is not installed.
func originalFlogtool() string {
	for _, name := range []string{"flogtool", "/usr/bin/flogtool"} {
		if path, err := exec.LookPath(name); err == nil {
			if head, err := os.ReadFile(path); err == nil && bytes.HasPrefix(head, []byte("#!")) {
				return path
			}
		}
	}
	return ""
}

// timing is a command and the best time of its runs.
type timing struct {
	name string
	args []string
	best time.Duration
}

// race runs the commands in turn, so that other load disturbs all alike, and sets their best
// times.
func race(rounds int, runs ...*timing) error {
	for range rounds {
		for _, t := range runs {
			cmd := exec.Command(t.args[0], t.args[1:]...)
			var errs bytes.Buffer
			cmd.Stderr = &errs
			start := time.Now()
			if err := cmd.Run(); err != nil {
				return fmt.Errorf("%s: %v: %.200s", t.name, err, errs.String())
			}
			if took := time.Since(start); t.best == 0 || took < t.best {
				t.best = took
			}
		}
	}
	return nil
}

// benchFiles measures the commands that read files.
func benchFiles(r *report) {
	dir := tempDir(r)
	if dir == "" {
		return
	}
	defer os.RemoveAll(dir)
	bin, err := buildCommand(dir, "flogtool")
	if err != nil {
		r.Errorf("%v", err)
		return
	}
	plain := filepath.Join(dir, "log.flog")
	data := makeLog(fileEvents)
	if err := os.WriteFile(plain, data, 0o600); err != nil {
		r.Errorf("%v", err)
		return
	}
	r.Row("file", float64(len(data))/1e6, "MB plain")
	benchCommands(r, dir, bin, plain)
	benchMemory(r, bin, data)
	benchSlice(r, dir, bin)
}

func benchCommands(r *report, dir, bin, plain string) {
	out := filepath.Join(dir, "out.flog")
	packed := filepath.Join(dir, "log.flog.zst")
	if b, err := exec.Command(bin, "filter", plain, packed).CombinedOutput(); err != nil {
		r.Errorf("filter to .zst: %v: %s", err, b)
		return
	}
	dump := &timing{name: "dump", args: []string{bin, "dump", plain}}
	filter := &timing{name: "filter by level", args: []string{bin, "filter", "--above", "WEIRD", plain, out}}
	dumpZstd := &timing{name: "dump of .zst", args: []string{bin, "dump", packed}}
	only := &timing{name: "filter by expression", args: []string{bin, "filter", "--only", `level >= WEIRD && facility startsWith "net."`, plain, out}}
	if err := race(7, dump, filter, dumpZstd, only); err != nil {
		r.Errorf("%v", err)
		return
	}
	for _, t := range []*timing{dump, dumpZstd, filter, only} {
		r.Row(t.name, t.best.Seconds()*1000, "ms")
	}
	peer := func(name string, ratio string, ours *timing, args ...string) {
		if _, err := exec.LookPath(args[0]); err != nil || args[0] == "" {
			r.Errorf("%s: %q is not installed", name, args[0])
			return
		}
		t := &timing{name: name, args: args}
		if err := race(2, t, ours); err != nil {
			r.Errorf("%v", err)
			return
		}
		r.Row(name, t.best.Seconds()*1000, "ms")
		if ratio != "" {
			r.Ratio(ratio, t.best.Seconds()/ours.best.Seconds())
		}
	}
	original := originalFlogtool()
	peer("dump, original", "dump-vs-original", dump, original, "dump", plain)
	peer("filter by level, original", "filter-vs-original", filter, original, "filter", "--above", "WEIRD", plain, out)
	peer("jq -c select(.d.level >= 30)", "filter-vs-jq", filter, "sh", "-c", "tail -n +2 "+plain+" | jq -c 'select(.d.level >= 30)'")
	peer("zstdcat | wc -l", "dump-zst-vs-zstdcat", dumpZstd, "sh", "-c", "zstdcat "+packed+" | wc -l")
	// With /dev/null as its output grep would stop at the first match.
	peer("grep -c", "filter-vs-grep", filter, "sh", "-c", `grep -c '"level": 30' `+plain+" | cat")
}

// benchMemory measures the memory of a dump of 5 GB from a pipe.
func benchMemory(r *report, bin string, data []byte) {
	const total = 5 << 30
	cmd := exec.Command(bin, "dump", "-")
	body := data[bytes.IndexByte(data, '\n')+1:]
	readers := []io.Reader{bytes.NewReader(data)}
	for size := len(data); size < total; size += len(body) {
		readers = append(readers, bytes.NewReader(body))
	}
	cmd.Stdin = io.MultiReader(readers...)
	start := time.Now()
	if err := cmd.Start(); err != nil {
		r.Errorf("dump of 5 GB: %v", err)
		return
	}
	// The Maxrss of a child includes what its parent had when it started the child.
	most, ended := make(chan int64, 1), make(chan struct{})
	go func() {
		var peak int64
		for {
			peak = max(peak, peakMemory(cmd.Process.Pid))
			select {
			case <-ended:
				most <- peak
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	err := cmd.Wait()
	close(ended)
	peak := <-most
	if err != nil {
		r.Errorf("dump of 5 GB: %v", err)
		return
	}
	if peak == 0 {
		r.Errorf("dump of 5 GB: this system does not report the memory of a process")
		return
	}
	r.Row("dump of 5 GB from a pipe", time.Since(start).Seconds(), "s")
	r.Row("memory of that", float64(peak)/(1<<20), "MiB at most")
	r.Ratio("dump-memory-of-64MiB", float64(peak)/(64<<20))
}

// peakMemory returns the peak resident memory of a running process in bytes, or 0 if the
// system does not report it.
func peakMemory(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			var kib int64
			if _, err := fmt.Sscanf(value, "%d", &kib); err == nil {
				return kib << 10
			}
		}
	}
	return 0
}

// benchSlice measures a dump of ten seconds from a .flog.zst of a gigabyte.
func benchSlice(r *report, dir, bin string) {
	const stored = 1 << 30
	path := filepath.Join(dir, "huge.flog.zst")
	last, err := makeHuge(path, stored)
	if err != nil {
		r.Errorf("%v", err)
		return
	}
	since := 1700000000 + last/2
	args := []string{bin, "dump", fmt.Sprintf("--since=%d", since), fmt.Sprintf("--until=%d", since+10), path}
	var times []time.Duration
	lines := 0
	for range 9 {
		start := time.Now()
		out, err := exec.Command(args[0], args[1:]...).Output()
		if err != nil {
			r.Errorf("slice: %v", err)
			return
		}
		times = append(times, time.Since(start))
		lines = bytes.Count(out, []byte("local#"))
	}
	slices.Sort(times)
	r.Row("10 s of a 1 GB .flog.zst", times[len(times)/2].Seconds()*1000, "ms (median)")
	r.Row("events in that", float64(lines), "events")
	r.Ratio("slice-of-50ms", times[len(times)/2].Seconds()/0.05)
	if lines == 0 {
		r.Errorf("slice: dump shows no events")
	}
}

// makeHuge writes a .flog.zst of at least stored bytes, with 100 events a second, and returns
// the seconds that its events span. The messages hardly compress, so that a few seconds
// suffice to write it.
func makeHuge(path string, stored int64) (seconds int, err error) {
	w, err := flogfile.Create(path, nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	rnd := rand.New(rand.NewPCG(2, 2))
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"
	noise := make([]byte, 8<<20)
	for i := range noise {
		noise[i] = letters[rnd.IntN(len(letters))]
	}
	var b []byte
	for i := 0; ; i++ {
		at := rnd.IntN(len(noise) - 1000)
		t := 1700000000 + float64(i)/100
		b = fmt.Appendf(b[:0], `{"from": "local", "rx_time": %.2f, "d": {"facility": "net.io", "message": "%s", "num": %d, "level": 20, "time": %.2f, "incarnation": ["0123456789abcdef", null]}}`+"\n",
			t, noise[at:at+1000], i, t)
		if _, err := w.Write(b); err != nil {
			return 0, err
		}
		if i%20000 == 0 {
			st, err := os.Stat(path)
			if err != nil {
				return 0, err
			}
			if st.Size() >= stored {
				return i / 100, nil
			}
		}
	}
}
