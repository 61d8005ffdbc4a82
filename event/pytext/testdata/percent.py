"""Prints cases of Python's % operator as JSON lines: pattern, values, result (null if it fails)."""
import json, random
rnd=random.Random(7)
vals=[0,1,-1,42,-42,66,2**31,2**63,-2**63-1,2**70,10**30,1.5,-1.5,0.0,-0.0,1e16,1e15,123456.789,1e-5,0.0001,2.25,1e100,5e-324,1.7976931348623157e308,float("nan"),float("inf"),float("-inf"),True,False,None,"","x","k\u00e9y","it's",'say "hi"',"\u2028\ue000\U0001f600\xa0\xad\x7f\n",[],[1,"two",None,3.5],{},{"k":[1,{"z":"y"}]}]
small=[v for v in vals if not (isinstance(v,int) and abs(v)>100)]+[3,4,5,-6]
convs=list("diouxXeEfFgGcrsaqpb%")
flags=["","#","0","-"," ","+","#0","-0","+0"," 0","+ ","#-"]
widths=["","1","5","12"]
precs=["",".",".0",".1",".3",".10",".20"]
mods=["","l","h","L","ll"]
out=[]
for i in range(6000):
    spec="%(v)"+rnd.choice(flags)+rnd.choice(widths)+rnd.choice(precs)+(rnd.choice(mods) if rnd.random()<.1 else "")+rnd.choice(convs)
    pat=rnd.choice(["","a "])+spec+rnd.choice([""," b","%%"])
    v=rnd.choice(vals)
    try: r=pat%{"v":v}
    except (ValueError,TypeError,OverflowError,KeyError): r=None
    out.append([pat,{"v":v},r])
for i in range(3000):
    n=rnd.randrange(0,4)
    pat=" ".join("%"+rnd.choice(flags)+rnd.choice(widths+["*"])+rnd.choice(precs+[".*"])+rnd.choice(convs) for _ in range(rnd.randrange(0,4)))
    v=tuple(rnd.choice(small) for _ in range(n))
    try: r=pat%v
    except (ValueError,TypeError,OverflowError,KeyError): r=None
    out.append([pat,{"tuple":v},r])
for pat,v in [("%s",5),("%s",None),("%d",None),("x",5),("x",None),("x",[1]),("x",{"a":1}),("%s",{"a":1}),("%s %s",{"a":1}),("%(a)s %s",{"a":1}),("%(a(b))s",{"a(b)":1}),("%()s",{"":3}),("%( a )s",{" a ":3}),("%(a",{"a":1}),("100%",{"a":1}),("50% done",{"a":1}),("%",5),("%5",5),("%(a)",{"a":1}),("%(a)%",{"a":1}),("%s","abc"),("%c","ab"),("%c",1114112),("%c",0xd83d),("%.2s","a\U0001f600b"),("%5%",{"a":1}),("%-5%|",5),("%(a)s",[1]),("%(a)s",5)]:
    try: r=pat%v
    except Exception as e: r=None
    out.append([pat,v if isinstance(v,dict) else {"one":v},r])
for o in out:
    line = json.dumps(o)
    if len(line) < 400: print(line)
