package tail

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/flogtool/flogtool/rpc"
)

// Target is a live process to follow.
type Target struct {
	Name string // stands before its lines if there are several targets
	FURL rpc.FURL
}

// ParseTarget returns the target that text names: a FURL, whose TubID becomes the name, a
// file that holds a FURL, or a directory with a file logport.furl. The error says which
// of these is missing or malformed.
func ParseTarget(text string) (Target, error) {
	if strings.HasPrefix(text, "pb:") {
		furl, err := rpc.ParseFURL(text)
		if err != nil {
			return Target{}, err
		}
		return Target{Name: string(furl.Tub), FURL: furl}, nil
	}
	st, err := os.Stat(text)
	if err != nil {
		return Target{}, fmt.Errorf("can't use tail target %q: not a FURL, a file or a directory: %w", text, errors.Unwrap(err))
	}
	file := text
	if st.IsDir() {
		file = filepath.Join(text, "logport.furl")
	}
	furl, err := rpc.ReadFURLFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return Target{}, fmt.Errorf("can't use tail target %q: the directory has no logport.furl", text)
	}
	if err != nil {
		return Target{}, fmt.Errorf("can't use tail target %q: %w", text, err)
	}
	return Target{Name: text, FURL: furl}, nil
}
