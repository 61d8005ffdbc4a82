package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/flogtool/flogtool/classify"
	"github.com/flogtool/flogtool/cmd/internal/cli"
	"github.com/flogtool/flogtool/cmd/internal/shortopt"
	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/event/pytext"
)

func newClassifyIncidentCommand() *cobra.Command {
	var dir string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "classify-incident [flags] FILE...",
		Short: "Print the categories of incident files",
		Long: "Classify-incident prints one line for each incident file: its name and the\n" +
			"categories that the rules in DIR give it, or unknown if no rule matches. Rules are\n" +
			"files classify_NAME.expr; see 'flogtool rules --help'.",
		Example: "  flogtool classify-incident -c rules incident-2023-11-15--01-00-01Z-uxwklei.flog.bz2\n" +
			"  flogtool classify-incident -v -c ig ig/incidents/*/*.flog.*",
		Annotations: map[string]string{shortopt.Original: "classifier-directory verbose help version"},
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := loadRules(cmd.ErrOrStderr(), dir)
			if err != nil {
				return err
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			failed := len(set.Errors()) > 0
			for c := range classifyFiles(cmd.Context(), set, args, verbose) {
				if _, err := out.Write(c.out.Bytes()); err != nil {
					return err
				}
				if c.errs.Len() > 0 {
					failed = true
					if err := out.Flush(); err != nil {
						return err
					}
					cmd.ErrOrStderr().Write(c.errs.Bytes())
				}
			}
			if err := out.Flush(); err != nil {
				return err
			}
			if failed {
				return cli.ExitCode(1)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&dir, "classifier-directory", "c", ".", "directory of the rules")
	flags.BoolVarP(&verbose, "verbose", "v", false, "show the trigger of incidents whose category is unknown")
	return cmd
}

// loadRules loads the rules of dir and prints the errors of single rules.
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

// classified is the output for one incident file.
type classified struct{ out, errs bytes.Buffer }

// classifyFiles yields the output for each file, in their order. It classifies several
// files at once.
func classifyFiles(ctx context.Context, set *classify.Rules, names []string, verbose bool) iter.Seq[*classified] {
	return func(yield func(*classified) bool) {
		ctx, cancel := context.WithCancel(ctx)
		workers := runtime.GOMAXPROCS(0)
		order := make(chan chan *classified, 8*workers)
		var loops sync.WaitGroup
		defer loops.Wait()
		defer cancel()
		loops.Go(func() {
			defer close(order)
			free := make(chan struct{}, workers)
			for _, name := range names {
				done := make(chan *classified, 1)
				select {
				case order <- done:
				case <-ctx.Done():
					return
				}
				free <- struct{}{}
				loops.Go(func() {
					done <- classifyFile(set, name, verbose)
					<-free
				})
			}
		})
		for done := range order {
			if !yield(<-done) {
				return
			}
		}
	}
}

// classifyFile returns the output for one incident file.
func classifyFile(set *classify.Rules, name string, verbose bool) *classified {
	c := &classified{}
	inc, err := classify.Open(name)
	if err != nil {
		fmt.Fprintf(&c.errs, "flogtool classify-incident: %v\n", err)
		return c
	}
	defer inc.Close()
	result := set.Classify(&inc.Incident)
	fmt.Fprintf(&c.out, "%s: %s\n", name, strings.Join(result.Categories, ","))
	if verbose && len(result.Categories) == 1 && result.Categories[0] == classify.Unknown {
		showTrigger(&c.out, inc.Trigger)
	}
	for _, e := range result.Errors {
		fmt.Fprintln(&c.errs, e)
	}
	if damage, ok := errors.AsType[*flogfile.DamageError](inc.Damage()); ok {
		fmt.Fprintf(&c.errs, "flogtool classify-incident: %v\n", damage)
	}
	return c
}

// showTrigger prints what is needed to write a rule.
func showTrigger(out io.Writer, trigger *event.Event) {
	fmt.Fprintln(out, pytext.Format(trigger))
	fmt.Fprintf(out, "%s\n", trigger.AppendJSON(nil))
	if failure, ok := trigger.Get("failure"); ok {
		fmt.Fprintf(out, " FAILURE:\n %s\n", pytext.AppendRepr(nil, failure))
	}
	fmt.Fprintln(out)
}
