package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/flogtool/flogtool/cmd/internal/cli"
	"github.com/flogtool/flogtool/event/flogfile"
)

// localZone returns the time zone that TZ names. Package time reads TZ only once, and tests
// change it.
func localZone() *time.Location {
	if name, ok := os.LookupEnv("TZ"); ok && name != "" {
		if loc, err := time.LoadLocation(name); err == nil {
			return loc
		}
	}
	return time.Local
}

// foreign prints a *flogfile.FormatError in the words of the original and returns the exit
// code. It returns other errors unchanged.
func foreign(errw io.Writer, command string, err error) error {
	f, ok := errors.AsType[*flogfile.FormatError](err)
	if !ok {
		return err
	}
	switch f.Format {
	case flogfile.FormatPickle:
		fmt.Fprintf(errw, "Error: %s appears to be an old-style\n"+
			"(pickle-based) flogfile, which cannot be loaded safely. If you\n"+
			"wish to allow the author of the flogfile to take over your\n"+
			"computer (and incidentally allow you to view the content), please\n"+
			"use the flogtool from a copy of foolscap-0.12.7 or earlier.\n", f.Name)
	case flogfile.FormatFURL:
		fmt.Fprintf(errw, "Error: %s appears to be a FURL file.\n"+
			"Perhaps you meant to run 'flogtool tail' instead of 'flogtool %s'?\n", f.Name, command)
	case flogfile.FormatBzip2:
		fmt.Fprintf(errw, "Error: %s does not appear to be a flogfile.\n"+
			"It is compressed by bzip2: rename it to %s.bz2, or read it with 'flogtool %s - <%s'.\n", f.Name, f.Name, command, f.Name)
	default:
		fmt.Fprintf(errw, "Error: %s does not appear to be a flogfile.\n\n", f.Name)
	}
	return cli.ExitCode(1)
}
