// Command bench measures flogtool and compares it with similar programs.
//
//	go run . PART…    run these parts: rpc, recorder, …
//	go run .          run all parts
//
// Each part prints a table, then a line `RATIO name value` for each comparison, which a
// script can read. Both sides of a comparison are measured in one run: on a machine that
// others use too, the ratio is reliable and the times are not.
package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/flogtool/flogtool/logport"
)

// parts lists the parts in the order in which they run.
var parts = []struct {
	name string
	run  func(*report)
}{
	{"rpc", benchRPC},
	{"recorder", func(r *report) { benchRecorder(r); benchService(r) }},
	{"publishing", benchPublishing},
	{"classify", benchClassify},
	{"files", benchFiles},
	{"gatherer", benchGatherer},
	{"appserver", benchAppserver},
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, out, errw io.Writer) int {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	for _, a := range args {
		if !slices.Contains(names, a) {
			fmt.Fprintf(errw, "bench: unknown part %q: want one of %s\n", a, strings.Join(names, ", "))
			return 2
		}
	}
	code := 0
	for _, p := range parts {
		if len(args) > 0 && !slices.Contains(args, p.name) {
			continue
		}
		r := &report{part: p.name}
		start := time.Now()
		p.run(r)
		for _, dir := range r.dirs {
			os.RemoveAll(dir)
		}
		r.print(out, time.Since(start))
		for _, e := range r.errors {
			fmt.Fprintf(errw, "bench: %s: %s\n", p.name, e)
			code = 1
		}
	}
	return code
}

// report collects the results of one part.
type report struct {
	part   string
	rows   [][2]string
	ratios []string
	errors []string
	dirs   []string // to be removed when the part has ended
}

// Row adds a measurement to the table, with three significant digits, or in full if it is a
// whole number.
func (r *report) Row(name string, value float64, unit string) {
	r.rows = append(r.rows, [2]string{name, number(value) + " " + unit})
}

// Ratio adds a comparison.
func (r *report) Ratio(name string, value float64) {
	r.ratios = append(r.ratios, fmt.Sprintf("RATIO %s %.3f", name, value))
}

// Errorf adds an error: something could not be measured. The program then exits with 1.
func (r *report) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

// print prints the table and the ratios.
func (r *report) print(w io.Writer, took time.Duration) {
	fmt.Fprintf(w, "%s  (%s, %s/%s, %d CPUs, %.0f s)\n", r.part, runtime.Version(), runtime.GOOS, runtime.GOARCH,
		runtime.NumCPU(), took.Seconds())
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range r.rows {
		fmt.Fprintf(tw, "  %s\t%s\n", row[0], row[1])
	}
	tw.Flush()
	for _, ratio := range r.ratios {
		fmt.Fprintln(w, ratio)
	}
	fmt.Fprintln(w)
}

// number returns v with three significant digits, or rounded to a whole number from 100 on.
func number(v float64) string {
	if v >= 100 || v == float64(int64(v)) {
		digits := strconv.FormatInt(int64(v+0.5), 10)
		for i := len(digits) - 3; i > 0; i -= 3 {
			digits = digits[:i] + "," + digits[i:]
		}
		return digits
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// tempDir returns a new directory, which is removed when the part has ended.
func tempDir(r *report) string {
	dir, err := os.MkdirTemp("", "flogtool-bench-*")
	if err != nil {
		r.Errorf("%v", err)
	}
	r.dirs = append(r.dirs, dir)
	return dir
}

// openForBench opens a logport and panics if that fails.
func openForBench(r *report, cfg logport.Config) *logport.Logport {
	lp, err := logport.Open(cfg)
	if err != nil {
		r.Errorf("%v", err)
		panic(err)
	}
	return lp
}
