// Package durabletest simulates a disk that fails, and a machine that stops.
//
// A [Disk] is the layer under a durable.Dir. It counts operations. A test runs a
// piece of code once to learn how many there are, then once more for each: with
// that operation failing ([Disk.FailAt]), or with the machine stopping at it
// ([Disk.CrashAt]) and starting again ([Disk.Restart]) in each of the states that
// the disk may then be in ([Outcomes]).
//
//	disk := durabletest.New()
//	disk.CrashAt(k)
//	err := code(disk.Dir())
//	disk.Restart(outcome)
//	check(disk.Dir())
//
// It has files, directories, hard links and locks, and no symbolic links.
package durabletest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/flogtool/flogtool/internal/durable"
)

// The errors of operations on a [Disk], wrapped in a *fs.PathError.
var (
	ErrInjected = errors.New("injected failure")
	ErrCrashed  = errors.New("the machine has stopped")
)

// Outcome says what a disk keeps, when the machine stops, of what was not synced.
// Names and contents are independent: a rename may survive when the content of
// the renamed file does not.
type Outcome struct {
	Names   bool // whether names that were made, changed and removed stay so
	Content Fate // of what was written
}

// Fate is what happens to the unsynced content of each file.
type Fate int

// The fates of unsynced content.
const (
	Lost Fate = iota
	Torn      // half of it is kept
	Kept
)

// Outcomes are all there are. The last one is what a kill of the process leaves.
var Outcomes = []Outcome{{false, Lost}, {false, Torn}, {false, Kept}, {true, Lost}, {true, Torn}, {true, Kept}}

// Disk is a simulated disk. Its methods may be called from any goroutine.
type Disk struct {
	mu      sync.Mutex
	root    *node // never nil
	ops     int
	failAt  int // an operation's number, 0 for none
	crashAt int
	run     int // the number of restarts; a handle of an earlier run is dead
}

// node is a file or a directory. A directory has entries, a file has data.
type node struct {
	dir     bool
	mode    fs.FileMode
	data    []byte
	entries map[string]*node
	changed time.Time

	syncedData    []byte
	syncedEntries map[string]*node

	locked *handle
}

// New returns an empty disk.
func New() *Disk { return &Disk{root: newDir(0o700)} }

func newDir(mode fs.FileMode) *node {
	return &node{dir: true, mode: mode | fs.ModeDir, entries: map[string]*node{}, syncedEntries: map[string]*node{}}
}

// Dir returns the disk's root directory.
func (d *Disk) Dir() *durable.Dir {
	d.mu.Lock()
	defer d.mu.Unlock()
	return durable.New("disk", layer{d, d.run})
}

// Operations returns how many operations there were since New or the last call of
// FailAt, CrashAt or Restart.
func (d *Disk) Operations() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

// FailAt lets the n-th operation from now fail, counted from 1. It has no effect,
// except that a write has written half.
func (d *Disk) FailAt(n int) { d.set(n, 0) }

// CrashAt stops the machine at the n-th operation from now, counted from 1. That
// operation has no effect, except that a write has written half; all later ones
// fail with [ErrCrashed].
func (d *Disk) CrashAt(n int) { d.set(0, n) }

func (d *Disk) set(failAt, crashAt int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ops, d.failAt, d.crashAt = 0, failAt, crashAt
}

// Restart stops the machine, if it has not stopped yet, and starts it with what
// the disk kept. Open files and locks are gone; Dir must be called again.
func (d *Disk) Restart(o Outcome) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ops, d.failAt, d.crashAt = 0, 0, 0
	d.run++
	d.root = d.root.after(o, map[*node]*node{})
}

// after returns the node as it is after a restart; done has those that have been
// made, since a file may have two names.
func (n *node) after(o Outcome, done map[*node]*node) *node {
	if m := done[n]; m != nil {
		return m
	}
	m := &node{dir: n.dir, mode: n.mode, changed: n.changed}
	done[n] = m
	if !n.dir {
		switch o.Content {
		case Lost:
			m.data = slices.Clone(n.syncedData)
		case Torn:
			m.data = torn(n.syncedData, n.data)
		case Kept:
			m.data = slices.Clone(n.data)
		}
		m.syncedData = slices.Clone(m.data)
		return m
	}
	entries := n.syncedEntries
	if o.Names {
		entries = n.entries
	}
	m.entries = map[string]*node{}
	for name, child := range entries {
		m.entries[name] = child.after(o, done)
	}
	m.syncedEntries = maps.Clone(m.entries)
	return m
}

// torn returns what is on the disk when half of the change from before to now is.
func torn(before, now []byte) []byte {
	same := 0
	for same < min(len(before), len(now)) && before[same] == now[same] {
		same++
	}
	half := same + (len(now)-same)/2
	mix := slices.Clone(now[:half])
	if len(before) > half {
		mix = append(mix, before[half:]...)
	}
	return mix
}

// operate counts an operation and returns the error that it must fail with. mu is
// held.
func (d *Disk) operate(run int, op, name string) error {
	if run != d.run {
		return &fs.PathError{Op: op, Path: name, Err: ErrCrashed}
	}
	d.ops++
	switch {
	case d.crashAt > 0 && d.ops >= d.crashAt:
		return &fs.PathError{Op: op, Path: name, Err: ErrCrashed}
	case d.ops == d.failAt:
		return &fs.PathError{Op: op, Path: name, Err: ErrInjected}
	}
	return nil
}

// layer is the view that one run of the machine has of the disk.
type layer struct {
	*Disk
	run int
}

// find returns the node name, or an error that says why there is none. mu is held.
func (l layer) find(op, name string) (*node, error) {
	name = path.Clean(name)
	if name == "." {
		return l.root, nil
	}
	dir, base, err := l.place(op, name)
	if err != nil {
		return nil, err
	}
	if n := dir.entries[base]; n != nil {
		return n, nil
	}
	return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

// place returns the directory of name, and the name in it. mu is held.
func (l layer) place(op, name string) (dir *node, base string, err error) {
	if !fs.ValidPath(path.Clean(name)) {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	dir, err = l.find(op, path.Dir(path.Clean(name)))
	if err == nil && !dir.dir {
		err = &fs.PathError{Op: op, Path: name, Err: errors.New("not a directory")}
	}
	return dir, path.Base(name), err
}

// enter gives n the name in its directory. mu is held.
func (l layer) enter(op, name string, n *node, replace bool) error {
	dir, base, err := l.place(op, name)
	if err != nil {
		return err
	}
	if old := dir.entries[base]; old != nil && (!replace || old.dir) {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrExist}
	}
	dir.entries[base] = n
	return nil
}

func (l layer) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.operate(l.run, "open", name); err != nil {
		return nil, err
	}
	n, err := l.find("open", name)
	switch {
	case err == nil && flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	case errors.Is(err, fs.ErrNotExist) && flag&os.O_CREATE != 0:
		n = &node{mode: perm, changed: time.Now()}
		err = l.enter("open", name, n, false)
	case err == nil && n.dir && flag&(os.O_WRONLY|os.O_RDWR) != 0:
		err = &fs.PathError{Op: "open", Path: name, Err: errors.New("is a directory")}
	}
	if err != nil {
		return nil, err
	}
	if flag&os.O_TRUNC != 0 {
		n.data = nil
	}
	return &handle{layer: l, name: name, node: n, appends: flag&os.O_APPEND != 0, writes: flag&(os.O_WRONLY|os.O_RDWR) != 0}, nil
}

func (l layer) Mkdir(name string, perm fs.FileMode) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.operate(l.run, "mkdir", name); err != nil {
		return err
	}
	return l.enter("mkdir", name, newDir(perm), false)
}

func (l layer) Rename(oldname, newname string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.operate(l.run, "rename", oldname); err != nil {
		return err
	}
	n, err := l.find("rename", oldname)
	if err == nil {
		err = l.enter("rename", newname, n, true)
	}
	if err == nil && path.Clean(oldname) != path.Clean(newname) {
		dir, base, _ := l.place("rename", oldname)
		delete(dir.entries, base)
	}
	return err
}

func (l layer) Link(oldname, newname string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.operate(l.run, "link", oldname); err != nil {
		return err
	}
	n, err := l.find("link", oldname)
	if err == nil {
		err = l.enter("link", newname, n, false)
	}
	return err
}

func (l layer) Remove(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.operate(l.run, "remove", name); err != nil {
		return err
	}
	n, err := l.find("remove", name)
	if err != nil {
		return err
	}
	if len(n.entries) > 0 {
		return &fs.PathError{Op: "remove", Path: name, Err: errors.New("directory not empty")}
	}
	dir, base, _ := l.place("remove", name)
	delete(dir.entries, base)
	return nil
}

func (l layer) Lstat(name string) (fs.FileInfo, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.operate(l.run, "lstat", name); err != nil {
		return nil, err
	}
	n, err := l.find("lstat", name)
	if err != nil {
		return nil, err
	}
	return n.info(path.Base(name)), nil
}

func (l layer) ReadDir(name string) ([]fs.DirEntry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.operate(l.run, "readdir", name); err != nil {
		return nil, err
	}
	n, err := l.find("readdir", name)
	if err != nil {
		return nil, err
	}
	var entries []fs.DirEntry
	for name, child := range n.entries {
		entries = append(entries, fs.FileInfoToDirEntry(child.info(name)))
	}
	return entries, nil
}

func (l layer) SyncDir(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.operate(l.run, "syncdir", name); err != nil {
		return err
	}
	n, err := l.find("syncdir", name)
	if err == nil {
		n.syncedEntries = maps.Clone(n.entries)
	}
	return err
}

// Lock implements [durable.Layer]. It does not wait: a test in which one
// goroutine waits for another takes the operating system's layer.
func (l layer) Lock(f durable.File, _ bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := f.(*handle)
	if err := l.operate(l.run, "lock", h.name); err != nil {
		return err
	}
	if h.node.locked != nil && h.node.locked != h {
		return durable.ErrInUse
	}
	h.node.locked = h
	return nil
}

func (l layer) Close() error { return nil }

// info describes a node. mu is held.
func (n *node) info(name string) fs.FileInfo {
	return info{name, int64(len(n.data)), n.mode, n.changed}
}

type info struct {
	name    string
	size    int64
	mode    fs.FileMode
	changed time.Time
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return i.changed }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return nil }

// handle is an open file.
type handle struct {
	layer
	name            string
	node            *node
	appends, writes bool

	offset int64 // guarded by mu
	closed bool  // guarded by mu
}

// begin locks the disk and counts an operation of h. The caller unlocks.
func (h *handle) begin(op string) error {
	h.mu.Lock()
	if err := h.operate(h.run, op, h.name); err != nil {
		return err
	}
	if h.closed {
		return &fs.PathError{Op: op, Path: h.name, Err: fs.ErrClosed}
	}
	return nil
}

func (h *handle) Read(b []byte) (int, error) {
	err := h.begin("read")
	defer h.mu.Unlock()
	if err != nil {
		return 0, err
	}
	n, err := bytes.NewReader(h.node.data).ReadAt(b, h.offset)
	h.offset += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (h *handle) ReadAt(b []byte, at int64) (int, error) {
	err := h.begin("read")
	defer h.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return bytes.NewReader(h.node.data).ReadAt(b, at)
}

func (h *handle) Seek(offset int64, whence int) (int64, error) {
	err := h.begin("seek")
	defer h.mu.Unlock()
	if err != nil {
		return 0, err
	}
	switch whence {
	case io.SeekCurrent:
		offset += h.offset
	case io.SeekEnd:
		offset += int64(len(h.node.data))
	}
	h.offset = offset
	return offset, nil
}

func (h *handle) Write(b []byte) (int, error) {
	err := h.begin("write")
	defer h.mu.Unlock()
	if h.appends {
		h.offset = int64(len(h.node.data))
	}
	n, err := h.write(b, h.offset, err)
	h.offset += int64(n)
	return n, err
}

func (h *handle) WriteAt(b []byte, at int64) (int, error) {
	err := h.begin("write")
	defer h.mu.Unlock()
	return h.write(b, at, err)
}

// write writes all of b, or if err is that of the operation that fails, half of
// it. mu is held.
func (h *handle) write(b []byte, at int64, err error) (int, error) {
	if err == nil && !h.writes {
		return 0, &fs.PathError{Op: "write", Path: h.name, Err: fs.ErrPermission}
	}
	if err != nil {
		if h.ops != h.failAt && h.ops != h.crashAt {
			return 0, err
		}
		b = b[:len(b)/2]
	}
	end := int(at) + len(b)
	if end > len(h.node.data) {
		h.node.data = append(h.node.data, make([]byte, end-len(h.node.data))...)
	}
	copy(h.node.data[at:], b)
	h.node.changed = time.Now()
	return len(b), err
}

func (h *handle) Stat() (fs.FileInfo, error) {
	err := h.begin("stat")
	defer h.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return h.node.info(path.Base(h.name)), nil
}

func (h *handle) Chmod(mode fs.FileMode) error {
	err := h.begin("chmod")
	defer h.mu.Unlock()
	if err == nil {
		h.node.mode = h.node.mode.Type() | mode.Perm()
	}
	return err
}

func (h *handle) Truncate(size int64) error {
	err := h.begin("truncate")
	defer h.mu.Unlock()
	if err == nil {
		h.node.data = append(h.node.data[:min(int(size), len(h.node.data))], make([]byte, max(0, int(size)-len(h.node.data)))...)
	}
	return err
}

func (h *handle) Sync() error {
	err := h.begin("sync")
	defer h.mu.Unlock()
	if err == nil {
		h.node.syncedData = slices.Clone(h.node.data)
	}
	return err
}

// Close closes the file also if the operation fails.
func (h *handle) Close() error {
	err := h.begin("close")
	defer h.mu.Unlock()
	h.closed = true
	if h.node.locked == h {
		h.node.locked = nil
	}
	return err
}
