package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/tw"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/event/pytext"
	"github.com/flogtool/flogtool/gatherer"
	"github.com/flogtool/flogtool/internal/durable"
)

// demoTimeout is how long the demo waits for the first incident. It takes five seconds on an
// idle machine.
const demoTimeout = 90 * time.Second

func newDemoCommand() *cobra.Command {
	var (
		dir, service string
		once         bool
	)
	cmd := &cobra.Command{
		Use:     "demo [flags]",
		Short:   "Show two services, an incident, a gatherer and NATS at work",
		Example: "  flogtool demo\n  flogtool demo --once --dir /tmp/demo",
		Long: "Demo starts an incident gatherer with its NATS server, and two small services that log\n" +
			"much. After a few seconds something fails in one of them. The gatherer fetches the\n" +
			"incident, classifies it and publishes it, and the demo shows it. The demo then prints\n" +
			"commands to look further, and runs until Ctrl-C.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if service != "" {
				return runDemoService(cmd.Context(), service, dir, cmd.InOrStdin(), cmd.OutOrStdout())
			}
			d := &demo{dir: dir, once: once, out: cmd.OutOrStdout(), start: time.Now(), notes: make(chan demoNote)}
			return withoutPackage(d.run(cmd.Context()))
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "end after the first incident")
	cmd.Flags().StringVar(&dir, "dir", "", "keep all files in `DIR`; default: a temporary directory that is removed at the end")
	// The services are processes of this program: see demo_service.go.
	cmd.Flags().StringVar(&service, "service", "", "")
	_ = cmd.Flags().MarkHidden("service")
	return cmd
}

// demo is one run of the demonstration. Its goroutines send notes to run, and only run
// prints.
type demo struct {
	dir       string
	temporary bool
	once      bool
	out       io.Writer
	start     time.Time
	notes     chan demoNote
}

// demoNote is what a goroutine sends to run: a line of a service, a message on NATS, or an
// error, which ends the demo.
type demoNote struct {
	name, line string // of a service
	subject    string // of a message
	payload    []byte
	err        error
}

// demoRules has the rules of the demo's gatherer. They match what the services of
// demo_service.go log.
var demoRules = map[string]string{
	"classify_retries.expr": "// A request failed after all its retries: look at what it waited for.\n" +
		"message startsWith \"retry budget exhausted\" ? \"retries-exhausted\" : nil\n",
	"classify_fraud.expr": "// The fraud check did not answer in time, and payments were made without it.\n" +
		"facility == \"payments.fraud\" && message contains \"skipped\" ? \"fraud-check-skipped\" : nil\n",
}

func (d *demo) run(ctx context.Context) (err error) {
	if d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "flogtool-demo-"); err != nil {
			return err
		}
		d.temporary = true
		defer func() {
			os.RemoveAll(d.dir)
			d.printf("\nThe demo has ended. %s is removed; --dir DIR keeps the files.\n", d.dir)
		}()
	} else if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	if d.dir, err = filepath.Abs(d.dir); err != nil {
		return err
	}

	var parts sync.WaitGroup
	defer parts.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	d.printf("\nTwo services, a gatherer and an incident, in %s\n\n", d.dir)
	g, err := d.openGatherer()
	if err != nil {
		return err
	}
	parts.Go(func() { g.run(ctx, d.notes) })
	furl, err := d.await(ctx, g.furl)
	if err != nil {
		return endedBy(ctx, err)
	}
	d.report("gatherer", "waiting at "+furl)

	err = g.Subscribe(ctx, "flog.>", func(subject string, payload []byte) {
		d.send(ctx, demoNote{subject: subject, payload: payload})
	})
	if err != nil {
		return err
	}
	d.report("NATS", "subscribed to flog.>")
	for _, name := range demoServices {
		parts.Go(func() { d.runService(ctx, name) })
	}
	return endedBy(ctx, d.follow(ctx))
}

// endedBy returns nil if err says only that ctx is done, which is how a demo ends, and err if
// not.
func endedBy(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// follow prints notes until ctx is done or, with --once, until it has shown an incident.
func (d *demo) follow(ctx context.Context) error {
	late := time.After(demoTimeout)
	shown := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			if len(shown) == 0 {
				return fmt.Errorf("no incident arrived in %v: the reason may be in %s", demoTimeout, d.path("gatherer.log"))
			}
		case n := <-d.notes:
			switch {
			case n.err != nil:
				return n.err
			case n.subject == "":
				d.report(n.name, n.line)
			default:
				name, err := d.showMessage(n.subject, n.payload, len(shown) == 0)
				if err != nil {
					return err
				}
				shown[name] = true
				if d.once {
					return nil
				}
				if len(shown) == 1 {
					d.printf("\nThe services continue, with more incidents. Ctrl-C ends the demo.\n\n")
				}
			}
		}
	}
}

// await returns the first of values, or the error that ended the demo before.
func (d *demo) await(ctx context.Context, values <-chan string) (string, error) {
	for {
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case n := <-d.notes:
			if n.err != nil {
				return "", n.err
			}
		case v := <-values:
			return v, nil
		}
	}
}

// send sends a note to run.
func (d *demo) send(ctx context.Context, n demoNote) {
	select {
	case d.notes <- n:
	case <-ctx.Done():
	}
}

func (d *demo) path(parts ...string) string {
	return filepath.Join(append([]string{d.dir}, parts...)...)
}

// demoGatherer is the gatherer of the demo, which logs to a file.
type demoGatherer struct {
	*gatherer.Gatherer
	furl chan string
	log  *os.File
}

// openGatherer creates the gatherer and its directory, with a port that is free now.
func (d *demo) openGatherer() (*demoGatherer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	listener.Close()
	dir := d.path("gatherer")
	err = gatherer.Create(dir, gatherer.Options{
		Incidents: true, Port: "tcp:" + port + ":interface=127.0.0.1", Location: "tcp:127.0.0.1:" + port,
	})
	if err != nil {
		return nil, err
	}
	for name, text := range demoRules {
		if err := durable.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	log, err := os.OpenFile(d.path("gatherer.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	g := &demoGatherer{furl: make(chan string, 1), log: log}
	g.Gatherer, err = gatherer.New(gatherer.Config{
		Dir: dir, Log: slog.New(slog.NewTextHandler(log, nil)), Waiting: func(furl string) { g.furl <- furl },
	})
	if err != nil {
		log.Close()
		return nil, err
	}
	return g, nil
}

// run runs the gatherer until ctx is done, and sends its error.
func (g *demoGatherer) run(ctx context.Context, notes chan<- demoNote) {
	defer g.log.Close()
	err := g.Run(ctx)
	if err == nil {
		return
	}
	select {
	case notes <- demoNote{err: err}:
	case <-ctx.Done():
	}
}

// runService runs a service as a process until ctx is done, and sends the lines that it
// prints. The process ends at the end of its standard input, so that it cannot outlive the
// demo.
func (d *demo) runService(ctx context.Context, name string) {
	self, err := os.Executable()
	if err != nil {
		d.send(ctx, demoNote{err: err})
		return
	}
	cmd := exec.Command(self, "demo", "--service", name, "--dir", d.dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		d.send(ctx, demoNote{err: err})
		return
	}
	defer context.AfterFunc(ctx, func() { in.Close() })()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		d.send(ctx, demoNote{err: err})
		return
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		d.send(ctx, demoNote{name: name, line: lines.Text()})
	}
	if err := cmd.Wait(); err != nil && ctx.Err() == nil {
		d.send(ctx, demoNote{err: fmt.Errorf("service %s: %w", name, err)})
	}
}

// incidentMessage has the keys that the demo needs of an incident's summary on NATS.
// docs/nats.md lists all.
type incidentMessage struct {
	Name       string   `json:"name"`
	Program    string   `json:"program"`
	Tubs       []string `json:"tubs"`
	Text       string   `json:"text"`
	Categories []string `json:"categories"`
	Events     int      `json:"events"`
	File       string   `json:"file"`
	Size       int64    `json:"size"`
}

// showMessage prints a message from NATS and the incident that it announces, and returns
// the incident's name. After the first incident it prints commands to look further.
func (d *demo) showMessage(subject string, payload []byte, first bool) (string, error) {
	d.report("NATS", subject)
	var m incidentMessage
	if err := json.Unmarshal(payload, &m); err != nil || m.Name == "" {
		return "", fmt.Errorf("the message on %s is not the summary of an incident: %v", subject, err)
	}
	d.printf("\n  Incident   %s\n  from       %s, Tub %s\n  classified %s\n  holds      %s events in a file of %s\n\n",
		m.Name, clean(m.Program), strings.Join(m.Tubs, " "), strings.Join(m.Categories, ", "),
		thousands(m.Events), kib(m.Size))
	file := d.path("gatherer", filepath.FromSlash(m.File))
	if err := d.showIncident(file); err != nil {
		return "", err
	}
	if !first {
		d.printf("\n")
		return m.Name, nil
	}
	if d.once && d.temporary {
		d.printf("\nTo keep the files and look further: %s demo --dir DIR\n", programName())
		return m.Name, nil
	}
	self := programName()
	d.printf("\nCommands to look further:\n\n")
	for _, line := range []string{
		self + " dump " + quote(file),
		self + " tail " + quote(d.path(m.Program)),
		"cat " + quote(d.path("gatherer", "classified", m.Categories[0])),
		"cat " + quote(d.path("gatherer", "classify_retries.expr")),
	} {
		d.printf("  %s\n", line)
	}
	return m.Name, nil
}

// demoEvents is the number of events before the trigger that the demo shows.
const demoEvents = 14

// showIncident prints the trigger of an incident's file, the last events before it, and the
// number of events after it.
func (d *demo) showIncident(file string) error {
	r, err := flogfile.Open(file)
	if err != nil {
		return err
	}
	defer r.Close()
	var trigger *event.Event
	var before []*event.Event
	earlier, after, found := 0, 0, false
	for {
		line, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if header := line.Header(); header != nil {
			if dict, _ := header.Get("trigger"); dict != nil {
				fields, _ := dict.(event.Dict)
				trigger = event.FromDict(fields)
			}
			continue
		}
		if line.Kind&flogfile.KindEvent == 0 || trigger == nil {
			continue
		}
		ev, err := line.Event()
		if err != nil {
			return err
		}
		num, _ := ev.Num()
		triggered, _ := trigger.Num()
		switch {
		case found:
			after++
		case num == triggered:
			found = true
		default:
			if before = append(before, ev); len(before) > demoEvents {
				before = before[1:]
				earlier++
			}
		}
	}
	if trigger == nil {
		return fmt.Errorf("%s has no trigger", file)
	}
	rows := make([][]string, 0, len(before)+1)
	for _, ev := range append(before, trigger) {
		rows = append(rows, demoRow(ev, trigger))
	}
	d.printf("  %s events, then the last %d before the trigger:\n\n", thousands(earlier), len(before))
	if err := d.table(rows); err != nil {
		return err
	}
	d.printf("\n  then %s events after the trigger, in which the service recovers\n", thousands(after))
	return nil
}

var demoColumns = []string{"SECONDS", "LEVEL", "FACILITY", "MESSAGE", "WITH"}

// demoRow returns a row for one event: its time relative to the trigger, level, facility,
// text, and other fields.
func demoRow(ev, trigger *event.Event) []string {
	at, _ := ev.Seconds()
	zero, _ := trigger.Seconds()
	var with []string
	for _, f := range ev.Fields {
		switch f.Key {
		case "num", "time", "level", "message", "format", "args", "facility", "incarnation", "umid", "parent", "source":
		default:
			with = append(with, f.Key+"="+string(event.AppendJSON(nil, f.Value)))
		}
	}
	return []string{
		fmt.Sprintf("%.3f", at-zero), ev.Level().String(), clean(ev.Facility()),
		clean(pytext.Format(ev)), clean(strings.Join(with, " ")),
	}
}

// table prints rows as a table. On a terminal the last row, the trigger, is red.
func (d *demo) table(rows [][]string) error {
	width, _ := terminal(d.out)
	fit(rows, width-2)
	var text strings.Builder
	t := tablewriter.NewTable(&text,
		tablewriter.WithHeaderAutoFormat(tw.Off),
		tablewriter.WithHeaderAlignment(tw.AlignLeft),
		tablewriter.WithRowAutoWrap(tw.WrapNone),
		tablewriter.WithRowAlignmentConfig(tw.CellAlignment{
			PerColumn: []tw.Align{tw.AlignRight, tw.AlignLeft, tw.AlignLeft, tw.AlignLeft, tw.AlignLeft},
		}),
		tablewriter.WithRendition(tw.Rendition{
			Symbols: tw.NewSymbols(tw.StyleLight),
			Borders: tw.Border{Left: tw.On, Right: tw.On, Top: tw.On, Bottom: tw.On},
		}),
	)
	t.Header(demoColumns)
	if err := t.Bulk(rows); err != nil {
		return err
	}
	if err := t.Render(); err != nil {
		return err
	}
	_, color := terminal(d.out)
	lines := strings.Split(strings.TrimRight(text.String(), "\n"), "\n")
	for i, line := range lines {
		if color && i == len(lines)-2 {
			line = "\x1b[1;31m" + line + "\x1b[0m"
		}
		d.printf("  %s\n", line)
	}
	return nil
}

// fit shortens cells of the last column, and if necessary of the one before it, so that the
// table is at most width characters wide.
func fit(rows [][]string, width int) {
	widest := make([]int, len(demoColumns))
	for _, row := range append(rows, demoColumns) {
		for i, cell := range row {
			widest[i] = max(widest[i], utf8.RuneCountInString(cell))
		}
	}
	over := 1 - width
	for _, w := range widest {
		over += w + 3 // a border, and a blank on both sides
	}
	for i := len(widest) - 1; i >= len(widest)-2 && over > 0; i-- {
		room := max(widest[i]-over, 12)
		over -= widest[i] - room
		for _, row := range rows {
			row[i] = cut(row[i], room)
		}
	}
}

// report prints a line with the time since the start and the name of what it is about.
func (d *demo) report(name, line string) {
	bold, plain := "", ""
	if _, color := terminal(d.out); color {
		bold, plain = "\x1b[1m", "\x1b[0m"
	}
	d.printf("%6.1fs  %s%-9s%s %s\n", time.Since(d.start).Seconds(), bold, name, plain, clean(line))
}

func (d *demo) printf(format string, args ...any) { fmt.Fprintf(d.out, format, args...) }

// terminal returns the width of out in characters, and whether to use colours. If out is not
// a terminal they are 120 and false.
func terminal(out io.Writer) (width int, color bool) {
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 120, false
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width < 40 {
		width = 80
	}
	return width, os.Getenv("NO_COLOR") == ""
}

// cut returns line shortened to width characters, of which the last is then an ellipsis. It
// takes each character for one column wide, which those of the demo are.
func cut(line string, width int) string {
	r := []rune(line)
	if len(r) <= width {
		return line
	}
	return string(r[:width-1]) + "…"
}

// clean returns text with a replacement for each character that is not printable, so that it
// cannot control a terminal.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, text)
}

// programName returns a command that runs this program again.
func programName() string {
	self, err := os.Executable()
	if err == nil && strings.Contains(self, string(filepath.Separator)+"go-build") {
		return "go run ./cmd/flogtool"
	}
	return quote(os.Args[0])
}

// quote returns s quoted as one word for a shell.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./+:,@%") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// thousands returns n in decimal with commas.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func kib(n int64) string { return fmt.Sprintf("%.1f KiB", float64(n)/1024) }
