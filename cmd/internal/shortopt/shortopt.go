// Package shortopt expands abbreviated long options, such as --just-num, which the original
// accepts and scripts use.
package shortopt

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Annotations of commands.
const (
	// Original holds the long options of the original's command of the same name, joined
	// by blanks.
	Original = "original-options"

	// First is present if options must come before the first argument.
	First = "options-first"
)

// Expand returns args with abbreviated long options replaced by the whole ones. A prefix
// that is unique among the original's options of the command keeps that meaning when we
// add options. Any other prefix must be unique among all options; the error names the
// candidates.
func Expand(root *cobra.Command, args []string) ([]string, error) {
	cmd := root
	out := make([]string, 0, len(args))
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return append(out, args[i:]...), nil
		}
		if cmd.DisableFlagParsing {
			return append(out, args[i:]...), nil
		}
		switch {
		case strings.HasPrefix(arg, "--"):
			name, value, hasValue := strings.Cut(arg[2:], "=")
			flag, err := findFlag(cmd, name)
			if err != nil {
				return args, err
			}
			if flag == nil {
				break // cobra reports it
			}
			arg = "--" + flag.Name
			if hasValue {
				arg += "=" + value
			} else if flag.NoOptDefVal == "" && i+1 < len(args) {
				i++ // the value, which may look like an option
				out = append(out, arg)
				arg = args[i]
			}
		case len(arg) > 1 && arg[0] == '-':
			if takesNext(cmd, arg[1:]) && i+1 < len(args) {
				i++
				out = append(out, arg)
				arg = args[i]
			}
		default:
			if sub, _, err := cmd.Find([]string{arg}); err == nil && sub != cmd && sub.Parent() == cmd {
				cmd = sub
			} else if _, first := cmd.Annotations[First]; first {
				return append(out, args[i:]...), nil
			}
		}
		out = append(out, arg)
	}
	return out, nil
}

// takesNext reports whether the last of the short options takes the next argument as its
// value.
func takesNext(cmd *cobra.Command, short string) bool {
	for i := range len(short) {
		flag := cmd.Flags().ShorthandLookup(short[i : i+1])
		if flag == nil {
			return false
		}
		if flag.NoOptDefVal == "" {
			return i == len(short)-1
		}
	}
	return false
}

// findFlag returns the long option with this name or prefix, or nil.
func findFlag(cmd *cobra.Command, name string) (*pflag.Flag, error) {
	cmd.InitDefaultHelpFlag()
	if flag := cmd.Flag(name); flag != nil {
		return flag, nil
	}
	match := func(names []string) (found []string) {
		for _, n := range names {
			if strings.HasPrefix(n, name) {
				found = append(found, n)
			}
		}
		return found
	}
	found := match(strings.Fields(cmd.Annotations[Original]))
	if len(found) == 0 {
		var all []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { all = append(all, f.Name) })
		cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) { all = append(all, f.Name) })
		found = match(all)
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return cmd.Flag(found[0]), nil
	}
	return nil, fmt.Errorf("%s: option --%s is ambiguous: --%s", cmd.Name(), name, strings.Join(found, " or --"))
}
