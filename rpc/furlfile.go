package rpc

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// ReadFURLFile returns the FURL in a file: its first line that begins with
// pb://. Other lines are ignored, so a FURL in a comment is not taken for one.
//
// The error is that of reading the file, or wraps [ErrBadFURL]. It names the file
// and does not show its content.
//
// Spec: flogfile.md section 7.
func ReadFURLFile(file string) (FURL, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return FURL{}, err
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "pb://") {
			f, err := ParseFURL(line)
			if err != nil {
				return FURL{}, fmt.Errorf("rpc: furl file %q: %w", file, errors.Unwrap(err))
			}
			return f, nil
		}
	}
	return FURL{}, fmt.Errorf("rpc: furl file %q: %w: no line begins with pb://", file, ErrBadFURL)
}

// ReadFURLs returns the FURLs in a file that lists one a line. Empty lines and
// lines that begin with # are ignored.
//
// A line that is not a FURL costs that line only: the FURLs of all other lines
// are returned, with an error that wraps [ErrBadFURL] and names the file and the
// first such line. Any other error is that of reading the file.
//
// Spec: flogfile.md section 7.
func ReadFURLs(file string) ([]FURL, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var furls []FURL
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f, bad := ParseFURL(line)
		if bad == nil && !strings.HasPrefix(line, "pb://") {
			bad = fmt.Errorf("rpc: %w: it does not begin with pb://", ErrBadFURL)
		}
		if bad == nil {
			furls = append(furls, f)
		} else if err == nil {
			err = fmt.Errorf("rpc: furl file %q: line %d: %w", file, n, errors.Unwrap(bad))
		}
	}
	return furls, err
}
