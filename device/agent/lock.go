package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Lock keeps a second agent from the same directory.
type Lock struct{ file *os.File }

// BusyError says that another process holds the lock.
type BusyError struct{ PID int }

func (e *BusyError) Error() string {
	return fmt.Sprintf("another agent works in this directory: process %d", e.PID)
}

// TakeLock takes the lock of a directory, which it makes, or returns a
// *BusyError. The kernel gives it back when the process ends, however it ends.
func TakeLock(dir string) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, &BusyError{holder(file)}
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	// Whose it is serves people and `renew`; on a full disk it stays unsaid.
	_ = file.Truncate(0)
	_, _ = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return &Lock{file}, nil
}

// Release gives the lock back.
func (l *Lock) Release() { _ = l.file.Close() }

func holder(file *os.File) int {
	b := make([]byte, 20)
	n, _ := file.ReadAt(b, 0)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	return pid
}

// Holder is the process that holds the lock of a directory, or 0.
func Holder(dir string) int {
	file, err := os.Open(filepath.Join(dir, "lock"))
	if err != nil {
		return 0
	}
	defer file.Close()
	if syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) == nil {
		return 0 // nobody holds it; closing gives it back
	}
	return holder(file)
}
