package appserver

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// An optionScanner reads the options at the start of a service's arguments. The first
// other word or "--" ends them.
type optionScanner struct {
	args []string // not yet read
	name string   // of the current option: --NAME
	err  error    // the first one

	value    string // after = in the same word
	hasValue bool
}

// next advances to the next option and reports whether there is one.
func (s *optionScanner) next() bool {
	if s.err != nil || len(s.args) == 0 || !strings.HasPrefix(s.args[0], "--") {
		return false
	}
	word := s.args[0]
	s.args = s.args[1:]
	if word == "--" {
		return false
	}
	s.name, s.value, s.hasValue = strings.Cut(word, "=")
	return true
}

// text returns the option's value: what follows the equals sign, or else the next word.
func (s *optionScanner) text() string {
	if s.hasValue {
		return s.value
	}
	if len(s.args) == 0 {
		s.err = fmt.Errorf("option %s needs a value", s.name)
		return ""
	}
	value := s.args[0]
	s.args = s.args[1:]
	return value
}

// duration returns the option's value as a positive duration.
func (s *optionScanner) duration() time.Duration {
	text := s.text()
	d, err := time.ParseDuration(text)
	if s.err == nil && (err != nil || d <= 0) {
		s.err = fmt.Errorf("option %s: %q is not a duration such as 30s or 5m", s.name, text)
	}
	return d
}

var sizeForm = regexp.MustCompile(`^([0-9]+) ?(?:([KMGT])(?:iB)?)?$`)

// size returns the option's value as a positive number of bytes: 500000, 500M or 500
// MiB. Each unit is 1024 times the one before.
func (s *optionScanner) size() int64 {
	text := s.text()
	if s.err != nil {
		return 0
	}
	if m := sizeForm.FindStringSubmatch(text); m != nil {
		shift := 10 * (1 + strings.Index("KMGT", m[2]))
		if m[2] == "" {
			shift = 0
		}
		if n, err := strconv.ParseInt(m[1], 10, 64); err == nil && n > 0 && n <= math.MaxInt64>>shift {
			return n << shift
		}
	}
	s.err = fmt.Errorf("option %s: %q is not a size such as 500M or 2G", s.name, text)
	return 0
}

func (s *optionScanner) unknown() { s.err = fmt.Errorf("option %s not recognized", s.name) }
