// Package agent is what keeps a Linux machine's official certificate: a
// configuration file, one [device.Agent] under it, and around that what a
// service needs: files and a hook for the programs that use the certificate, a
// status, a lock, and a word with systemd.
package agent
