// Package bzip2 writes bzip2 data, which the standard library only reads. It is a
// package of its own so that programs that only log do not link it.
package bzip2

import (
	"io"

	"github.com/dsnet/compress/bzip2"
)

// NewWriter returns a writer that compresses into w at the highest level. Its Close
// ends the data and does not close w. The error is never that of w.
func NewWriter(w io.Writer) (io.WriteCloser, error) {
	return bzip2.NewWriter(w, &bzip2.WriterConfig{Level: bzip2.BestCompression})
}
