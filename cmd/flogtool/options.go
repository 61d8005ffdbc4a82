package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/flogtool/flogtool/cmd/internal/cli"
	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/filter"
	"github.com/flogtool/flogtool/tail"
)

// selectFlags are the options by which dump, filter and tail select events.
type selectFlags struct {
	only, level, facility, since, until, from, grep string
	last, context                                   int
	around, parents                                 string
}

// add defines the options.
func (s *selectFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&s.only, "only", "", "events for which this `EXPR`ession is true: 'level >= WEIRD && attrs.path startsWith \"/api\"'")
	flags.StringVar(&s.level, "level", "", "events of this `LEVEL` and above, a name or a number")
	flags.StringVar(&s.facility, "facility", "", "events of this `FACILITY` and its dotted children")
	flags.StringVar(&s.since, "since", "", "events from this `TIME` on: RFC 3339, 16:04, or relative: -15m")
	flags.StringVar(&s.until, "until", "", "events up to this `TIME`")
	flags.StringVar(&s.from, "from", "", "events of senders whose TubID begins with this `PREFIX`")
	flags.StringVar(&s.grep, "grep", "", "events in whose text this regular `EXPR`ession is found")
	flags.IntVar(&s.last, "last", 0, "the last `N` of the selected events")
	flags.StringVar(&s.around, "around", "", "this `EVENT` (its number, or FROM#NUMBER) and those around it")
	flags.IntVar(&s.context, "context", 10, "how many `N` events before and after with --around")
	flags.StringVar(&s.parents, "parents", "", "the chain of causes of this `EVENT`: it, its parent, and so on")
}

// build returns what the options select; errors are usage errors.
func (s *selectFlags) build(flags *pflag.FlagSet) (*tail.Select, error) {
	sel := &tail.Select{From: s.from, Last: s.last, Context: s.context}
	var err error
	usage := func(option string, e error) {
		if err == nil && e != nil {
			err = cli.Usage(fmt.Errorf("--%s: %w", option, e))
		}
	}
	if s.only != "" {
		f, e := filter.Compile(s.only)
		usage("only", e)
		sel.Only = f
	}
	if flags.Changed("level") {
		level, ok := event.ParseLevel(s.level)
		if !ok {
			usage("level", fmt.Errorf("%q is no level: %s, or a number", s.level, levelNames()))
		}
		sel.Level = &level
	}
	if flags.Changed("facility") {
		sel.Facility = &s.facility
	}
	now := time.Now().In(localZone())
	if s.since != "" {
		var e error
		sel.Since, e = tail.ParseTime(s.since, now)
		usage("since", e)
	}
	if s.until != "" {
		var e error
		sel.Until, e = tail.ParseTime(s.until, now)
		usage("until", e)
	}
	if s.grep != "" {
		re, e := regexp.Compile(s.grep)
		usage("grep", e)
		sel.Grep = re
	}
	if s.around != "" {
		var e error
		sel.Around, e = tail.ParseEventRef(s.around)
		usage("around", e)
	}
	if s.parents != "" {
		var e error
		sel.Parents, e = tail.ParseEventRef(s.parents)
		usage("parents", e)
	}
	if s.last < 0 {
		usage("last", fmt.Errorf("a negative number of events"))
	}
	if s.context < 0 {
		usage("context", fmt.Errorf("a negative number of events"))
	}
	if s.last > 0 && s.around != "" {
		usage("last", fmt.Errorf("--around chooses other events: give one of them"))
	}
	if flags.Changed("context") && s.around == "" {
		usage("context", fmt.Errorf("it says how many events --around shows, which is missing"))
	}
	if err != nil {
		return nil, err
	}
	return sel, nil
}

func levelNames() string {
	var names []string
	for _, l := range event.Levels {
		names = append(names, l.String())
	}
	return strings.Join(names, ", ")
}

// showFlags are the options by which dump and tail show events.
type showFlags struct {
	times    string
	color    string
	json     bool
	template string

	table, tree, summary bool
	noPager              bool
}

func (s *showFlags) add(flags *pflag.FlagSet, files bool) {
	flags.StringVarP(&s.times, "timestamps", "t", "short-local", "how to show times: short-local, long-local, utc, epoch, relative")
	flags.BoolVar(&s.json, "json", false, "one JSON object a line: the file's, and the event's text")
	flags.StringVar(&s.template, "template", "", "a `TEMPLATE` for each event: '{{.Time}} {{.Name}} {{.Text}} {{.Attrs.path}}'")
	flags.StringVar(&s.color, "color", "auto", "colour by level: `WHEN` is auto, always or never")
	flags.Lookup("color").NoOptDefVal = "always"
	if files {
		flags.BoolVar(&s.table, "table", false, "a table")
		flags.BoolVar(&s.tree, "tree", false, "events below their parents")
		flags.BoolVar(&s.summary, "summary", false, "counts by facility and level, the rate over time, gaps and triggers")
		flags.BoolVar(&s.noPager, "no-pager", false, "do not show the output in a pager")
	}
}

// style sets what the options say of how events are shown.
func (s *showFlags) style(style *tail.Style, out io.Writer) error {
	var err error
	if style.Times, err = tail.ParseTimeMode(s.times); err != nil {
		return cli.Usage(err)
	}
	style.Zone = localZone()
	forms := 0
	set := func(on bool, form tail.Form) {
		if on {
			style.Form = form
			forms++
		}
	}
	set(s.json, tail.FormJSON)
	set(s.table, tail.FormTable)
	set(s.tree, tail.FormTree)
	set(s.summary, tail.FormSummary)
	set(s.template != "", tail.FormTemplate)
	if forms > 1 {
		return cli.Usagef("only one of --json, --table, --tree, --template and --summary can be given")
	}
	if s.template != "" {
		if style.Template, err = tail.ParseTemplate(s.template); err != nil {
			return cli.Usage(err)
		}
	}
	style.Terminal = isTerminal(out)
	switch s.color {
	case "auto":
		style.Color = style.Terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	case "always":
		style.Color = true
	case "never":
	default:
		return cli.Usagef("--color is auto, always or never, not %q", s.color)
	}
	if style.Form == tail.FormJSON {
		style.Color = false
	}
	return nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// completeSelect completes the values of options that stand in files: names of
// levels and facilities.
func completeSelect(cmd *cobra.Command) {
	must := func(err error) {
		if err != nil {
			panic(err) // the option does not exist: our mistake
		}
	}
	must(cmd.RegisterFlagCompletionFunc("level", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return strings.Split(levelNames(), ", "), cobra.ShellCompDirectiveNoFileComp
	}))
	must(cmd.RegisterFlagCompletionFunc("facility", func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		return tail.Facilities(args), cobra.ShellCompDirectiveNoFileComp
	}))
}

func completeShow(cmd *cobra.Command) {
	for name, values := range map[string][]string{
		"timestamps": {"short-local", "long-local", "utc", "epoch", "relative"},
		"color":      {"auto", "always", "never"},
	} {
		if err := cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
			panic(err)
		}
	}
}

// completeFiles completes flog files, directories, and names of incidents.
func completeFiles(_ *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return tail.CompleteFiles(prefix), cobra.ShellCompDirectiveDefault
}
