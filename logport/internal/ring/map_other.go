//go:build !linux

package ring

import (
	"errors"
	"os"
)

// mapFile is built where a file's room on the disk can be reserved, which keeps
// a full disk from ending the process by a signal.
func mapFile(*os.File, int) ([]byte, error) {
	return nil, errors.New("files are not mapped on this platform")
}
