package main

import (
	"errors"
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

// selectFlags has the options with which dump, filter and tail select events.
type selectFlags struct {
	only, level, facility, since, until, from, grep string
	last, context                                   int
	around, parents                                 string
}

// add adds the options to flags.
func (s *selectFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&s.only, "only", "", "events for which the expression `EXPR` is true: 'level >= WEIRD && attrs.path startsWith \"/api\"'")
	flags.StringVar(&s.level, "level", "", "events at `LEVEL` or above, a name or a number")
	flags.StringVar(&s.facility, "facility", "", "events of `FACILITY` or its dotted children")
	flags.StringVar(&s.since, "since", "", "events at `TIME` or later: RFC 3339, 16:04, or -15m, relative to now")
	flags.StringVar(&s.until, "until", "", "events at `TIME` or earlier")
	flags.StringVar(&s.from, "from", "", "events whose from, a TubID or the name of a file, begins with `PREFIX`")
	flags.StringVar(&s.grep, "grep", "", "events whose text matches the regular expression `EXPR`")
	flags.IntVar(&s.last, "last", 0, "the last `N` of the selected events")
	flags.StringVar(&s.around, "around", "", "`EVENT`, a number or FROM#NUMBER, and the events before and after it")
	flags.IntVar(&s.context, "context", 10, "with --around: `N` events before and after")
	flags.StringVar(&s.parents, "parents", "", "`EVENT`, its parent, the parent's parent, and so on")
}

// build returns the Select that the options describe. Its errors are usage errors.
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
			usage("level", fmt.Errorf("%q is not a level: want %s, or a number", s.level, levelNames()))
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
		usage("last", errors.New("the number of events is negative"))
	}
	if s.context < 0 {
		usage("context", errors.New("the number of events is negative"))
	}
	if s.last > 0 && s.around != "" {
		usage("last", errors.New("cannot be combined with --around"))
	}
	if flags.Changed("context") && s.around == "" {
		usage("context", errors.New("needs --around"))
	}
	if err != nil {
		return nil, err
	}
	return sel, nil
}

// levelNames returns the names of the levels, separated by commas.
func levelNames() string {
	var names []string
	for _, l := range event.Levels {
		names = append(names, l.String())
	}
	return strings.Join(names, ", ")
}

// showFlags has the options with which dump and tail show events.
type showFlags struct {
	times    string
	color    string
	json     bool
	template string

	// Of dump only.
	table, tree, summary bool
	noPager              bool
}

// add adds the options to flags; files is true for dump.
func (s *showFlags) add(flags *pflag.FlagSet, files bool) {
	flags.StringVarP(&s.times, "timestamps", "t", "short-local", "the form of times: short-local, long-local, utc, epoch or relative")
	flags.BoolVar(&s.json, "json", false, "a JSON object for each event: as in a flog file, with the text added")
	flags.StringVar(&s.template, "template", "", "the output of a Go `TEMPLATE` for each event: '{{.Time}} {{.Name}} {{.Text}} {{.Attrs.path}}'")
	flags.StringVar(&s.color, "color", "auto", "colour events by their level: `WHEN` is auto, always or never")
	flags.Lookup("color").NoOptDefVal = "always"
	if files {
		flags.BoolVar(&s.table, "table", false, "a table of the events")
		flags.BoolVar(&s.tree, "tree", false, "the events below their parents")
		flags.BoolVar(&s.summary, "summary", false, "counts by facility and level, the rate over time, missing numbers, and triggers")
		flags.BoolVar(&s.noPager, "no-pager", false, "do not use a pager")
	}
}

// style sets what the options say about the style. Its errors are usage errors.
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
		return cli.Usagef("only one of --json, --table, --tree, --template and --summary can be used")
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
		return cli.Usagef("--color: %q is not auto, always or never", s.color)
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

// completeSelect completes the values of the options of selectFlags in a shell: the names of
// levels, and those of the facilities in the files on the command line.
func completeSelect(cmd *cobra.Command) {
	must := func(err error) {
		if err != nil {
			panic(err) // the option does not exist
		}
	}
	must(cmd.RegisterFlagCompletionFunc("level", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return strings.Split(levelNames(), ", "), cobra.ShellCompDirectiveNoFileComp
	}))
	must(cmd.RegisterFlagCompletionFunc("facility", func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		return tail.Facilities(args), cobra.ShellCompDirectiveNoFileComp
	}))
}

// completeShow completes the values of the options of showFlags.
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

// completeFiles completes the names of files, directories and incidents.
func completeFiles(_ *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return tail.CompleteFiles(prefix), cobra.ShellCompDirectiveDefault
}
