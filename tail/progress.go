package tail

import (
	"io"
	"os"
	"sync"

	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/tail/progress"
)

// Progress shows a progress bar while a [Dump] or [Filter] reads its files. A nil Progress
// shows nothing. Its methods may be called from any goroutine.
type Progress struct {
	bar *progress.Bar

	mu      sync.Mutex
	readers []*flogfile.Reader // guarded by mu
	total   int64              // bytes of all files; guarded by mu
}

// NewProgress returns a Progress on errw for files as [Expand] returns them. It returns
// nil if errw is not a terminal or the size of a file is not known. The caller stops it.
func NewProgress(errw io.Writer, files []string) *Progress {
	p := &Progress{}
	for _, name := range files {
		st, err := os.Stat(name)
		if err != nil || !st.Mode().IsRegular() {
			return nil
		}
		p.total += st.Size()
	}
	if p.bar = progress.Start(errw, p.counts); p.bar == nil {
		return nil
	}
	return p
}

// add adds a reader of one of the files.
func (p *Progress) add(r *flogfile.Reader) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readers = append(p.readers, r)
	if len(p.readers) == 1 && r.Size() > 0 && r.Size() < p.total {
		p.total = r.Size() // with an index only a part of the file is read
	}
}

// counts returns the bytes that are read, and of how many.
func (p *Progress) counts() (done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.readers {
		done += r.BytesRead()
	}
	return done, p.total
}

// Stop removes the bar. It must be called once.
func (p *Progress) Stop() {
	if p != nil {
		p.bar.Stop()
	}
}
