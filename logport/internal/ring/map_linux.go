package ring

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mapFile gives f a size and maps it. The room is taken on the disk now: a disk
// that is full later must not end the process by a signal.
func mapFile(f *os.File, size int) ([]byte, error) {
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(size)); err != nil {
		return nil, fmt.Errorf("reserve %d bytes: %w", size, err)
	}
	data, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map: %w", err)
	}
	return data, nil
}
