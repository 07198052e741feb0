#!/usr/bin/env python3
"""Shows that each rule of tidy.py finds what it should and leaves alone what it should not."""
import tempfile
import unittest
from pathlib import Path

import tidy


def messages(rule):
    return [m for _, m in rule]


class Tidy(unittest.TestCase):
    def test_upward_include_is_found(self):
        self.assertTrue(messages(tidy.check_includes("kernels/tensor.cc", ['#include "engine/engine.h"'])))
        self.assertTrue(messages(tidy.check_includes("engine/engine.cc", ['#include "kernels/cpu/cpu_backend.h"'])))
        self.assertTrue(messages(tidy.check_includes("kernels/quantize.cc", ['#include "kernels/cpu/cpu_backend.h"'])))
        self.assertTrue(messages(tidy.check_includes("engine/engine.cc", ["#include <grpcpp/grpcpp.h>"])))

    def test_downward_include_is_fine(self):
        self.assertFalse(messages(tidy.check_includes("engine/engine.cc", ['#include "kernels/backend.h"'])))
        self.assertFalse(messages(tidy.check_includes("kernels/make_backend.cc", ['#include "kernels/cpu/cpu_backend.h"'])))

    def test_banned_words_are_found_outside_of_strings_and_comments(self):
        self.assertTrue(messages(tidy.check_banned("engine/a.cc", ["std::string_view x;"])))
        self.assertTrue(messages(tidy.check_banned("engine/a.cc", ["  std::mutex m;"])))
        self.assertTrue(messages(tidy.check_banned("engine/a.cc", ["  try {"])))
        self.assertFalse(messages(tidy.check_banned("engine/a.cc", ['Log("std::mutex");  // std::mutex'])))
        self.assertFalse(messages(tidy.check_banned("kernels/base/mutex.h", ["  std::mutex m;"])))

    def test_long_function_is_found(self):
        body = ["int F(int a) {"] + ["  ++a;"] * 80 + ["}"]
        self.assertTrue(messages(tidy.check_length("engine/a.cc", body)))
        self.assertFalse(messages(tidy.check_length("engine/a.cc", body[:40] + ["}"])))

    def test_long_file_is_found(self):
        self.assertTrue(messages(tidy.check_length("engine/a.cc", ["// x"] * 501)))

    def test_header_without_purpose_is_found(self):
        self.assertEqual(2, len(messages(tidy.check_header("engine/a.h", ["#include <vector>"]))))
        self.assertFalse(messages(tidy.check_header("engine/a.h", ["// Purpose.", "#pragma once"])))

    def test_unbuilt_source_and_unlisted_lock_are_found(self):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "engine").mkdir()
            (root / "engine/CMakeLists.txt").write_text("vernier_library(x SOURCES a.cc)")
            (root / "engine/README.md").write_text("Locks: `Queue::mutex_`")
            self.assertFalse(messages(tidy.check_in_cmake("engine/a.cc", root)))
            self.assertTrue(messages(tidy.check_in_cmake("engine/b.cc", root)))
            lines = ["class Queue {", "  mutable Mutex mutex_;"]
            self.assertFalse(messages(tidy.check_locks("engine/a.h", lines, root)))
            self.assertTrue(messages(tidy.check_locks("engine/a.h", ["class Other {", lines[1]], root)))

    def test_folder_without_readme_is_found(self):
        self.assertTrue(list(tidy.check_folders({"engine/a.cc"})))
        self.assertFalse(list(tidy.check_folders({"engine/a.cc", "engine/README.md"})))


if __name__ == "__main__":
    unittest.main()
