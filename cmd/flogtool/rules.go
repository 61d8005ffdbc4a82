package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/flogtool/flogtool/classify"
	"github.com/flogtool/flogtool/cmd/internal/cli"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/internal/durable"
	"github.com/flogtool/flogtool/rules"
	"github.com/flogtool/flogtool/tail"
)

const rulesHelp = `A rule is a file classify_NAME.expr with one expression. The comment above it says
what the rule finds and what to do about it:

  // The disk is full: free space, or move the spool.
  message contains "disk full" ? "disk-full" : nil

It gives a category, a list of categories, or nil. It knows the trigger's num,
time, level, message, facility, umid, parent and failure; attrs.NAME for any other
field of the trigger; from, the TubID of the process that recorded it, and program,
the name of that program; source.file and source.line, the log statement; the level
names (NOISY to BAD); and trigger, header, versions, tub and events. Functions: any, all, none, one, filter, map, count, find, len,
first, last, lower, upper, trim, hasPrefix, hasSuffix, indexOf, min, max, int,
float, string, fmt(event), and before("10s"): the events of the last ten seconds
before the trigger. Operators are those of expr: == != < > && || ! ? : in matches
contains startsWith endsWith ?? and more.

Cases of the rule are in classify_NAME.cases.jsonl, one JSON object a line:

  {"trigger": {"message": "disk full"}, "want": ["disk-full"]}
  {"name": "…", "trigger": {…}, "events": [{…}], "header": {…}, "want": []}
`

func newRulesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "Check, test and explain the rules that classify incidents",
		Long:  rulesHelp,
		Example: "  flogtool rules list\n" +
			"  flogtool rules check /var/lib/gatherer\n" +
			"  flogtool rules test rules\n" +
			"  flogtool rules explain -c rules incident-2023-11-15--01-00-01Z-uxwklei.flog.bz2 disk-full",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.Usagef("unknown command %q", args[0])
			}
			return cli.Usagef("must specify one of check, test, explain, list")
		},
	}
	cmd.AddCommand(newRulesCheckCommand(), newRulesTestCommand(), newRulesExplainCommand(), newRulesListCommand())
	return cmd
}

// shippedRules stands for the rules in this program where a command takes a directory.
const shippedRules = "shipped"

// openRules loads the rules of a directory, or the shipped rules.
func openRules(dir string) (*classify.Rules, error) {
	if dir == shippedRules {
		if _, err := os.Stat(dir); err != nil {
			return classify.LoadFS(rules.Files, shippedRules)
		}
	}
	return classify.Load(dir)
}

func newRulesCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "check DIR",
		Short:   "Compile all rules and report what is wrong with them",
		Long:    "Check compiles the rules in DIR and reports errors with their place; the exit code is 1\nif a rule does not compile. It warns of what cannot be meant, such as a condition\nthat never holds: level > 40 && level < 10. The name 'shipped' stands for the rules in\nthis program.",
		Example: "  flogtool rules check /var/lib/gatherer\n  flogtool rules check shipped",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := openRules(args[0])
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			for _, e := range r.Errors() {
				fmt.Fprintln(out, e)
			}
			for _, w := range r.Warnings() {
				fmt.Fprintf(out, "warning: %v\n", w)
			}
			bad, warned := len(r.Errors()), len(r.Warnings())
			if _, err := fmt.Fprintf(out, "%s, %s, %s\n", plural(r.Len(), "rule is good", "rules are good"), plural(bad, "does not compile", "do not compile"), plural(warned, "warning", "warnings")); err != nil {
				return err
			}
			if bad > 0 {
				return cli.ExitCode(1)
			}
			return nil
		},
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func newRulesTestCommand() *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:     "test DIR",
		Short:   "Run the cases of the rules",
		Long:    "Test runs each rule on its cases in classify_NAME.cases.jsonl and prints a table of the\ncases that fail; the exit code is 1 if there are any. The name 'shipped' stands for\nthe rules in this program.",
		Example: "  flogtool rules test rules\n  flogtool rules test -v shipped",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := openRules(args[0])
			if err != nil {
				return err
			}
			results, err := r.Test()
			if err != nil {
				return err
			}
			var rows [][]string
			wrong, tested := 0, map[string]bool{}
			for i := range results {
				c := &results[i]
				tested[c.Rule] = true
				result := "ok"
				if !c.OK() {
					wrong++
					result = "WRONG"
				}
				if c.OK() && !verbose {
					continue
				}
				got := strings.Join(c.Got, ",")
				if c.Err != nil {
					got, _, _ = strings.Cut(c.Err.Error(), "\n")
				}
				rows = append(rows, []string{result, fmt.Sprintf("%s:%d", c.File, c.Line), c.Name, none(strings.Join(c.Want, ",")), none(got)})
			}
			out := cmd.OutOrStdout()
			if len(rows) > 0 {
				fmt.Fprint(out, tail.Table([]string{"result", "case", "name", "want", "got"}, rows))
			}
			for _, e := range r.Errors() {
				fmt.Fprintln(out, e)
				if !tested[e.File] {
					wrong++
				}
			}
			if _, err := fmt.Fprintf(out, "%s of %s, %d wrong\n", plural(len(results), "case", "cases"), plural(len(tested), "rule", "rules"), wrong); err != nil {
				return err
			}
			if wrong > 0 {
				return cli.ExitCode(1)
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show all cases")
	return cmd
}

func none(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func newRulesExplainCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "explain [flags] INCIDENT-FILE [RULE...]",
		Short: "Show why rules match an incident or do not",
		Long: "Explain shows each part of a rule's expression with its value for this incident. Without\n" +
			"RULE it explains the rules of DIR that match, and lists the names of the others. RULE is\n" +
			"the name of a rule in DIR, or the path of any file with a rule.",
		Example: "  flogtool rules explain -c /var/lib/gatherer incident-2023-11-15--01-00-01Z-uxwklei.flog.bz2\n" +
			"  flogtool rules explain -c shipped incident-2023-11-15--01-00-01Z-uxwklei disk-full\n" +
			"  flogtool rules explain incident-2023-11-15--01-00-01Z-uxwklei rules/classify_disk-full.expr",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := openRules(dir)
			if err != nil {
				return err
			}
			for _, e := range r.Errors() {
				fmt.Fprintln(cmd.ErrOrStderr(), e)
			}
			files, err := tail.Expand(args[:1])
			if err != nil {
				return err
			}
			inc, err := classify.Open(files[0])
			if err != nil {
				if _, ok := errors.AsType[*flogfile.FormatError](err); ok {
					return foreign(cmd.ErrOrStderr(), "rules explain", err)
				}
				return err
			}
			defer inc.Close()
			explanations, err := r.Explain(&inc.Incident, args[1:]...)
			if err != nil {
				return err
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			var others []string
			for _, e := range explanations {
				if len(args) == 1 && len(e.Categories) == 0 && e.Err == nil {
					others = append(others, strings.TrimSuffix(strings.TrimPrefix(filepath.Base(e.File), "classify_"), ".expr"))
					continue
				}
				explain(out, &e)
			}
			if len(others) > 0 {
				fmt.Fprintf(out, "no match: %s\n", strings.Join(others, ", "))
			}
			return out.Flush()
		},
	}
	cmd.Flags().StringVarP(&dir, "classifier-directory", "c", ".", "directory of the rules; 'shipped' for those in this program")
	return cmd
}

// explain prints the parts of one rule with their values.
func explain(out io.Writer, e *classify.Explanation) {
	switch {
	case e.Err != nil:
		fmt.Fprintf(out, "%v\n", e.Err)
	case len(e.Categories) == 0:
		fmt.Fprintf(out, "%s: no match\n", e.File)
	default:
		fmt.Fprintf(out, "%s: %s\n", e.File, strings.Join(e.Categories, ","))
	}
	for _, c := range e.Clauses {
		value := c.Value
		if c.Err != nil {
			value, _, _ = strings.Cut(c.Err.Error(), "\n")
			value = "error: " + value
		}
		fmt.Fprintf(out, "%s%s\n%s  = %s\n", strings.Repeat("  ", c.Depth+1), c.Text, strings.Repeat("  ", c.Depth+1), value)
	}
}

func newRulesListCommand() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the rules that ship with this program, or copy them",
		Example: "  flogtool rules list\n  flogtool rules list --copy-to /var/lib/gatherer",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			entries, err := rules.Files.ReadDir(".")
			if err != nil {
				return err
			}
			for _, entry := range entries {
				name := entry.Name()
				data, err := rules.Files.ReadFile(name)
				if err != nil {
					return err
				}
				if to != "" {
					path := filepath.Join(to, name)
					if _, err := os.Lstat(path); err == nil {
						fmt.Fprintf(cmd.ErrOrStderr(), "%s exists and is not changed\n", path)
						continue
					}
					if err := durable.WriteFile(path, data, 0o644); err != nil {
						return err
					}
					continue
				}
				if rule, ok := strings.CutSuffix(name, ".expr"); ok {
					comment, _, _ := strings.Cut(string(data), "\n")
					fmt.Fprintf(cmd.OutOrStdout(), "%-26s %s\n", strings.TrimPrefix(rule, "classify_"), strings.TrimPrefix(comment, "// "))
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&to, "copy-to", "", "copy the rules and their cases into this `DIR`; files that exist are not changed")
	return cmd
}
