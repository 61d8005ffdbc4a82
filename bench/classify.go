package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/flogtool/flogtool/classify"
	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/event/flogfile/bzip2"
)

const (
	incidents      = 2000
	incidentEvents = 500
)

// writeIncident writes an incident of incidentEvents events. What it contains depends on k.
func writeIncident(path string, k int) error {
	w, err := flogfile.Create(path, bzip2.NewWriter)
	if err != nil {
		return err
	}
	message := "disk full"
	if k%3 == 0 {
		message = "odd"
	}
	trigger := fmt.Appendf(nil, `{"facility": "net.peer", "message": %q, "level": 30, "num": 399, "time": 1700000004.0, "incarnation": ["%016x", null]}`, message, k)
	header, err := event.ParseJSON(fmt.Appendf(nil, `{"type": "incident", "trigger": %s, "versions": {"foolscap": "21.7.0"}, "pid": 1}`, trigger))
	if err != nil {
		return err
	}
	b := flogfile.AppendHeader(nil, header.(event.Dict))
	if _, err := w.Write(b); err != nil {
		return err
	}
	b = b[:0]
	for i := range incidentEvents {
		d := trigger
		if i != 399 {
			d = fmt.Appendf(nil, `{"facility": "net.peer", "format": "%%(op)s of %%(key)s took %%(ms).3f ms", "op": "read", "key": "k-%08x", "ms": %d.25, "num": %d, "level": 10, "time": %.2f, "incarnation": ["%016x", null]}`,
				i*7919+k, i%97, i, 1700000000+float64(i)/100, k)
		}
		b = flogfile.AppendEvent(b, "local", time.Unix(1700000005, 0), d)
	}
	if _, err := w.Write(b); err != nil {
		return err
	}
	return w.Close()
}

// benchClassify compares classify-incident with the original's and an equivalent classifier,
// and measures the time of a thousand rules on one trigger.
func benchClassify(r *report) {
	dir := tempDir(r)
	if dir == "" {
		return
	}
	defer os.RemoveAll(dir)
	if err := classifyFiles(r, dir); err != nil {
		r.Errorf("%v", err)
	}
	if err := classifyRules(r, dir); err != nil {
		r.Errorf("%v", err)
	}
}

// classifyFiles compares the commands.
func classifyFiles(r *report, dir string) error {
	bin, err := buildCommand(dir, "flogtool")
	if err != nil {
		return err
	}
	rules := filepath.Join(dir, "rules")
	if err := os.Mkdir(rules, 0o700); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"classify_disk.expr": "message contains \"disk\" ? \"disk-full\" : nil\n",
		"classify_disk.py":   "def classify_incident(trigger):\n    if \"disk\" in trigger.get(\"message\", \"\"): return \"disk-full\"\n",
	} {
		if err := os.WriteFile(filepath.Join(rules, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	// The files are copies of three: compressing all of them would take longer than the
	// measurement.
	files := map[string][]string{}
	for _, suffix := range []string{".zst", ".bz2"} {
		var contents [][]byte
		for k := range incidents {
			path := filepath.Join(dir, fmt.Sprintf("incident-2023-11-15--%02d-%02d-%02dZ-abcdefq.flog%s", k/3600, k/60%60, k%60, suffix))
			files[suffix] = append(files[suffix], path)
			if k >= 3 {
				if err := os.WriteFile(path, contents[k%3], 0o600); err != nil {
					return err
				}
				continue
			}
			if err := writeIncident(path, k); err != nil {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			contents = append(contents, data)
		}
	}
	command := func(name, program, suffix string) *timing {
		return &timing{name: name, args: append([]string{program, "classify-incident", "-c", rules}, files[suffix]...)}
	}
	zst, bz2 := command("classify-incident, .zst", bin, ".zst"), command("classify-incident, .bz2", bin, ".bz2")
	original := command("classify-incident, .bz2, original", originalFlogtool(), ".bz2")
	if err := race(3, zst); err != nil {
		return err
	}
	r.Row(zst.name, incidents/zst.best.Seconds(), "incidents/s")
	if original.args[0] == "" {
		return fmt.Errorf("classify-incident, original: the original's flogtool is not installed")
	}
	if err := race(2, zst, bz2, original); err != nil {
		return err
	}
	r.Row(bz2.name, incidents/bz2.best.Seconds(), "incidents/s")
	r.Row(original.name, incidents/original.best.Seconds(), "incidents/s")
	r.Ratio("classify-zst-vs-original", original.best.Seconds()/zst.best.Seconds())
	r.Ratio("classify-bz2-vs-original", original.best.Seconds()/bz2.best.Seconds())
	return nil
}

// classifyRules measures the rules.
func classifyRules(r *report, dir string) error {
	rules := filepath.Join(dir, "thousand")
	if err := os.Mkdir(rules, 0o700); err != nil {
		return err
	}
	for i := range 1000 {
		text := fmt.Sprintf("umid == \"%06d\" || facility startsWith \"f%d.\" && level >= WEIRD ? \"c%d\" : nil\n", i, i, i)
		if err := os.WriteFile(filepath.Join(rules, fmt.Sprintf("classify_r%04d.expr", i)), []byte(text), 0o600); err != nil {
			return err
		}
	}
	set, err := classify.Load(rules)
	if err != nil {
		return err
	}
	trigger, err := event.ParseEvent([]byte(`{"num": 7, "level": 30, "facility": "f77.x", "umid": "un9CSQ", "message": "disk full", "time": 1700000000.5, "incarnation": ["0123456789abcdef", null]}`))
	if err != nil {
		return err
	}
	var best time.Duration
	for range 200 {
		start := time.Now()
		result := set.Classify(&classify.Incident{Name: "x", Trigger: trigger})
		if took := time.Since(start); best == 0 || took < best {
			best = took
		}
		if len(result.Categories) != 1 || result.Categories[0] != "c77" {
			return fmt.Errorf("1,000 rules return %q, want c77", result.Categories)
		}
	}
	r.Row("1,000 rules on one trigger", best.Seconds()*1000, "ms")
	r.Ratio("thousand-rules-of-1ms", best.Seconds()/0.001)
	return nil
}
