package main

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
)

// forgetPeak makes Linux measure the process's largest resident memory anew.
func forgetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// peak is the most memory that was resident since forgetPeak, in bytes; 0
// where the system does not tell.
func peak() int64 { return status("VmHWM") }

func status(name string) int64 { return figure("/proc/self/status", name) << 10 }

// written is how many bytes the process has sent to the disk; 0 where the
// system does not tell.
func written() int64 { return figure("/proc/self/io", "write_bytes") }

// figure reads a line "NAME: NUMBER …".
func figure(file, name string) int64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name+":"); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n
		}
	}
	return 0
}
