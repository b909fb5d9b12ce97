//! Conway's game of life on a board whose edges meet: {"rows": [".#.", ...], "generations": 4} gives the board afterwards.
const std = @import("std");

const Request = struct { rows: []const []const u8, generations: u32 = 1 };

const Board = struct {
    width: usize,
    height: usize,
    cells: []bool,

    fn parse(allocator: std.mem.Allocator, rows: []const []const u8) !Board {
        if (rows.len == 0 or rows[0].len == 0) return error.BoardIsEmpty;
        const board = try Board.init(allocator, rows[0].len, rows.len);
        for (rows, 0..) |row, y| {
            if (row.len != board.width) return error.RowsHaveDifferentLengths;
            for (row, 0..) |cell, x| board.cells[y * board.width + x] = cell == '#';
        }
        return board;
    }

    fn init(allocator: std.mem.Allocator, width: usize, height: usize) !Board {
        return .{ .width = width, .height = height, .cells = try allocator.alloc(bool, width * height) };
    }

    fn neighbours(board: Board, x: usize, y: usize) u32 {
        var count: u32 = 0;
        for ([_]usize{ board.height - 1, 0, 1 }) |down| {
            for ([_]usize{ board.width - 1, 0, 1 }) |right| {
                if (down == 0 and right == 0) continue;
                const place = (y + down) % board.height * board.width + (x + right) % board.width;
                count += @intFromBool(board.cells[place]);
            }
        }
        return count;
    }

    fn advance(board: Board, next: *Board) void {
        for (0..board.height) |y| {
            for (0..board.width) |x| {
                const place = y * board.width + x;
                const count = board.neighbours(x, y);
                next.cells[place] = count == 3 or (count == 2 and board.cells[place]);
            }
        }
    }
};

pub fn handle(allocator: std.mem.Allocator, input: []const u8) ![]const u8 {
    const request = try std.json.parseFromSliceLeaky(Request, allocator, input, .{});
    var board = try Board.parse(allocator, request.rows);
    var next = try Board.init(allocator, board.width, board.height);
    for (0..request.generations) |_| {
        board.advance(&next);
        std.mem.swap(Board, &board, &next);
    }
    return write(allocator, board);
}

fn write(allocator: std.mem.Allocator, board: Board) ![]const u8 {
    const rows = try allocator.alloc([]u8, board.height);
    var alive: u32 = 0;
    for (rows, 0..) |*row, y| {
        row.* = try allocator.alloc(u8, board.width);
        for (row.*, 0..) |*cell, x| {
            const lives = board.cells[y * board.width + x];
            cell.* = if (lives) '#' else '.';
            alive += @intFromBool(lives);
        }
    }
    return std.json.Stringify.valueAlloc(allocator, .{ .rows = rows, .alive = alive }, .{});
}
