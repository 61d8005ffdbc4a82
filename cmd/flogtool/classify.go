package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/flogtool/flogtool/classify"
	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
)

func newClassifyIncidentCommand() *cobra.Command {
	var dir string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "classify-incident [flags] FILE...",
		Short: "Name incident files by the rules of a directory",
		Long: "Classify-incident prints one line for each incident file: its name and the\n" +
			"categories that the rules in DIR give it, unknown if there is none. Rules are\n" +
			"files classify_NAME.expr; see 'flogtool rules --help'.",
		Example: "  flogtool classify-incident -c rules incident-2023-11-15--01-00-01Z-uxwklei.flog.bz2\n" +
			"  flogtool classify-incident -v -c ig ig/incidents/*/*.flog.*",
		Annotations: map[string]string{originalOptions: "classifier-directory verbose help version"},
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := loadRules(cmd.ErrOrStderr(), dir)
			if err != nil {
				return err
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			failed := len(set.Errors()) > 0
			for _, name := range args {
				if cmd.Context().Err() != nil {
					break
				}
				err := classifyFile(out, cmd.ErrOrStderr(), set, name, verbose)
				if errors.Is(err, errSaid) {
					failed = true
				} else if err != nil {
					return err
				}
			}
			if err := out.Flush(); err != nil {
				return err
			}
			if failed {
				return exitCode(1)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&dir, "classifier-directory", "c", ".", "directory of the rules")
	flags.BoolVarP(&verbose, "verbose", "v", false, "show the trigger of incidents that are unknown")
	return cmd
}

// errSaid is an error about which all has been said.
var errSaid = errors.New("said")

// loadRules loads the rules of dir and says what is wrong with single ones.
func loadRules(errw io.Writer, dir string) (*classify.Rules, error) {
	rules, err := openRules(dir)
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	for _, e := range rules.Errors() {
		fmt.Fprintln(errw, e)
	}
	if rules.Len() == 0 {
		if old, _ := filepath.Glob(filepath.Join(dir, "classify_*.py")); len(old) > 0 {
			fmt.Fprintf(errw, "%s: classifiers in Python are not run: write %s.expr in place of %s\n",
				dir, strings.TrimSuffix(filepath.Base(old[0]), ".py"), filepath.Base(old[0]))
		}
	}
	return rules, nil
}

// classifyFile prints the categories of one incident file. errSaid is returned
// for what concerns this file only.
func classifyFile(out *bufio.Writer, errw io.Writer, rules *classify.Rules, name string, verbose bool) error {
	inc, err := classify.Open(name)
	if err != nil {
		fmt.Fprintf(errw, "flogtool classify-incident: %v\n", err)
		return errSaid
	}
	defer inc.Close()
	result := rules.Classify(&inc.Incident)
	fmt.Fprintf(out, "%s: %s\n", name, strings.Join(result.Categories, ","))
	if verbose && len(result.Categories) == 1 && result.Categories[0] == classify.Unknown {
		showTrigger(out, inc.Trigger)
	}
	for _, e := range result.Errors {
		out.Flush()
		fmt.Fprintln(errw, e)
		err = errSaid
	}
	if damage, ok := errors.AsType[*flogfile.DamageError](inc.Damage()); ok {
		fmt.Fprintf(errw, "flogtool classify-incident: %v\n", damage)
		err = errSaid
	}
	return err
}

// showTrigger prints what one needs to write a rule.
func showTrigger(out *bufio.Writer, trigger *event.Event) {
	fmt.Fprintln(out, event.Format(trigger))
	fmt.Fprintf(out, "%s\n", trigger.AppendJSON(nil))
	if failure, ok := trigger.Get("failure"); ok {
		fmt.Fprintf(out, " FAILURE:\n %s\n", event.AppendRepr(nil, failure))
	}
	fmt.Fprintln(out)
}
