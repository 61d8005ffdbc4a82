package tail

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/flogtool/flogtool/rpc"
)

// Target is a live process to be followed.
type Target struct {
	Name string // as the user named it
	FURL rpc.FURL
}

// ParseTarget returns the target that text names: a FURL, a file that holds one,
// or a directory with a file logport.furl.
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
		return Target{}, fmt.Errorf("can't use tail target %q: it is no FURL, and no file or directory of that name: %w", text, errors.Unwrap(err))
	}
	file := text
	if st.IsDir() {
		file = filepath.Join(text, "logport.furl")
	}
	furl, err := rpc.ReadFURLFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return Target{}, fmt.Errorf("can't use tail target %q: there is no logport.furl in that directory", text)
	}
	if err != nil {
		return Target{}, fmt.Errorf("can't use tail target %q: %w", text, err)
	}
	return Target{Name: text, FURL: furl}, nil
}
