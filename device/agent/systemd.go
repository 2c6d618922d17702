package agent

import (
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// systemd is the service manager's socket (sd_notify(3)). The zero value is no
// service manager.
type systemd struct{ address string }

// manager is the service manager that started this process, if one did. The
// hook does not inherit it.
func manager() systemd { return systemd{os.Getenv("NOTIFY_SOCKET")} }

// tell sends assignments, one a line. That nobody listens changes nothing.
func (s systemd) tell(assignments ...string) {
	if s.address == "" {
		return
	}
	name := s.address
	if strings.HasPrefix(name, "@") {
		name = "\x00" + name[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = conn.Write([]byte(strings.Join(assignments, "\n")))
}

// watchdog is how often the manager wants a sign of life, or 0.
func watchdog() time.Duration {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	n, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || n <= 0 {
		return 0
	}
	return time.Duration(n) * time.Microsecond / 2
}
