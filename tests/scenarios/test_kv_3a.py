"""x"""
from kv_lab import *
import pytest, time
ROWS = dict(
basic=Row(1,5), concurrent=Row(5,5), unrel=Row(5,5,unreliable=True), mp1=Row(1,5,partitions=True), mpm=Row(5,5,partitions=True),
p1=Row(1,5,crash=True), pc=Row(5,5,crash=True), pcu=Row(5,5,True,True), pp=Row(5,5,crash=True,partitions=True), ppu=Row(5,5,True,True,True),
ppul=Row(15,7,True,True,True,random_keys=True),
s1=Row(1,5,crash=True,log_bytes_max=1000),s20=Row(20,5,crash=True,log_bytes_max=1000,seconds=2),su=Row(5,5,True,log_bytes_max=1000),sur=Row(5,5,True,True,log_bytes_max=1000),surp=Row(5,5,True,True,True,log_bytes_max=1000),
sl=Row(15,7,True,True,True,1000,True))
@pytest.mark.parametrize("n",ROWS)
def test_x(tmp_path,n):
    t=time.time()
    s=generic(tmp_path,ROWS[n])
    print(n, "wall", time.time()-t)
