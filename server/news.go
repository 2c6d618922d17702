package server

import (
	"context"

	"github.com/touchmark/touchmark/internal/cluster"
)

// openNews prepares to tell other servers what is new, if there is a Redis.
func (s *Server) openNews() (err error) {
	c := s.config.Redis
	if c.URL == "" {
		return nil
	}
	s.news, err = cluster.Open(cluster.Options{URL: c.URL, PasswordFile: s.config.inDir(c.PasswordFile), CA: s.config.inDir(c.CA), Name: s.authorities.Name()})
	return err
}

// hearNews listens to other servers, and tells them.
func (s *Server) hearNews(work context.Context) {
	if s.news == nil {
		return
	}
	s.working.Go(func() { s.contained(func() { s.news.Listen(work, s.status.told) }) })
	s.working.Go(func() { s.contained(func() { s.news.Speak(work) }) })
}

// changed is called when this server's store has told of certificates.
func (s *Server) changed() {
	s.status.told()
	if s.news != nil {
		s.news.Tell()
	}
}

func (s *Server) newsCheck() []check {
	if s.news == nil {
		return nil
	}
	return []check{{"redis", s.news.Ping}}
}

func (s *Server) closeNews() error {
	if s.news == nil {
		return nil
	}
	return s.news.Close()
}
