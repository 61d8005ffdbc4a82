package logport

import (
	"runtime/debug"
	"sync"

	"github.com/flogtool/flogtool/event"
)

// versions are the versions of what the program is made of, for those who read its
// events later.
type versions struct {
	mu sync.Mutex
	v  event.Dict // guarded by mu; replaced, never changed
}

// ours is the name under which our own version stands.
const ours = "flogtool"

// readBuild notes the program's own version, its toolchain's and ours.
func (v *versions) readBuild(program string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return
	}
	v.set("go", info.GoVersion)
	main := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (main == "" || main == "(devel)") {
			main = s.Value
		}
	}
	if main != "" {
		v.set(program, main)
	}
	v.set(ours, main)
	for _, dep := range info.Deps {
		if dep.Path == "github.com/flogtool/flogtool" {
			v.set(ours, dep.Version)
		}
	}
}

func (v *versions) set(name, version string) {
	if version == "" {
		version = "unknown"
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	var more event.Event
	for _, item := range v.v {
		more.Set(item.Key.(string), item.Value)
	}
	more.Set(name, version)
	v.v = more.Dict()
}

// all returns the versions by name, all of them text.
func (v *versions) all() event.Dict {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.v
}
