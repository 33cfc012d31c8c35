#!/bin/bash
exec python3 -u src/server.py
