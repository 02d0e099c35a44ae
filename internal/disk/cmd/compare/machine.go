package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"
)

// A machine is what the reader has to know of the one that was measured.
type machine struct {
	cores      int
	filesystem string
	sync       [2]float64 // median and 99 % of a bare write of 512 bytes and fsync, microseconds
	syncs      int        // of which
}

// filesystems are the kinds that statfs tells apart, by linux/magic.h.
var filesystems = map[int64]string{
	0xEF53: "ext4", 0x58465342: "xfs", 0x9123683E: "btrfs", 0x2FC12FC1: "zfs", 0x794C7630: "overlayfs",
	0x01021994: "tmpfs, which is memory and no disk", 0x6969: "nfs", 0x01021997: "9p", 0x65735546: "fuse", 0xF2F52010: "f2fs",
}

func lookAt(dir string, budget time.Duration) (machine, error) {
	m := machine{cores: runtime.NumCPU()}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return m, err
	}
	if m.filesystem = filesystems[int64(fs.Type)]; m.filesystem == "" {
		m.filesystem = fmt.Sprintf("a filesystem of kind %#x", fs.Type)
	}
	took, err := bareSyncs(filepath.Join(dir, "sync"), budget)
	if err != nil {
		return m, err
	}
	m.sync, m.syncs = [2]float64{quantile(took, 0.50), quantile(took, 0.99)}, len(took)
	return m, nil
}

// bareSyncs appends 512 bytes and waits until they are on the disk, again and
// again: nothing that confirms a write from a disk can be faster.
func bareSyncs(path string, budget time.Duration) (took []time.Duration, err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sector := make([]byte, 512)
	for end := time.Now().Add(budget); len(took) == 0 || time.Now().Before(end); {
		start := time.Now()
		if _, err := f.Write(sector); err != nil {
			return nil, err
		}
		if err := f.Sync(); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took, nil
}

// moduleVersion is what this program was built with.
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return ""
}
